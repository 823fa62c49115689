// SPDX-License-Identifier: GPL-3.0-or-later

// Command device-plugin is a stand-in for a device plugin: it offers devices with NUMA nodes of their own, and no device.
//
//	device-plugin FOLDER RESOURCE any|lowest ID=NODE[,NODE] ...
//
// With "lowest" it answers GetPreferredAllocation with the lowest IDs; with "any" the kubelet chooses.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type numaPlugin struct {
	plugin.UnimplementedDevicePluginServer

	devices []*plugin.Device
	options *plugin.DevicePluginOptions
}

func (n *numaPlugin) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return n.options, nil
}

func (n *numaPlugin) ListAndWatch(_ *plugin.Empty, stream plugin.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&plugin.ListAndWatchResponse{Devices: n.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (n *numaPlugin) GetPreferredAllocation(
	_ context.Context, request *plugin.PreferredAllocationRequest,
) (*plugin.PreferredAllocationResponse, error) {
	response := &plugin.PreferredAllocationResponse{}
	for _, container := range request.ContainerRequests {
		chosen := slices.Clone(container.MustIncludeDeviceIDs)
		for _, id := range slices.Sorted(slices.Values(container.AvailableDeviceIDs)) {
			if len(chosen) < int(container.AllocationSize) && !slices.Contains(chosen, id) {
				chosen = append(chosen, id)
			}
		}
		response.ContainerResponses = append(
			response.ContainerResponses, &plugin.ContainerPreferredAllocationResponse{DeviceIDs: chosen})
	}
	return response, nil
}

func (n *numaPlugin) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	response := &plugin.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &plugin.ContainerAllocateResponse{})
	}
	return response, nil
}

func parseDevice(text string) (*plugin.Device, error) {
	id, nodes, _ := strings.Cut(text, "=")
	device := &plugin.Device{ID: id, Health: plugin.Healthy}
	if nodes == "" {
		return device, nil
	}
	device.Topology = &plugin.TopologyInfo{}
	for _, node := range strings.Split(nodes, ",") {
		number, err := strconv.ParseInt(node, 10, 64)
		if err != nil {
			return nil, err
		}
		device.Topology.Nodes = append(device.Topology.Nodes, &plugin.NUMANode{ID: number})
	}
	return device, nil
}

func run(folder, resource, preference string, devices []string) error {
	served := &numaPlugin{options: &plugin.DevicePluginOptions{GetPreferredAllocationAvailable: preference == "lowest"}}
	for _, text := range devices {
		device, err := parseDevice(text)
		if err != nil {
			return err
		}
		served.devices = append(served.devices, device)
	}
	name := strings.ReplaceAll(resource, "/", "-") + ".sock"
	listener, err := net.Listen("unix", filepath.Join(folder, name))
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	server := grpc.NewServer()
	plugin.RegisterDevicePluginServer(server, served)
	go func() { failed <- server.Serve(listener) }()

	connection, err := grpc.NewClient(
		"unix://"+filepath.Join(folder, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	_, err = plugin.NewRegistrationClient(connection).Register(context.Background(), &plugin.RegisterRequest{
		Version: plugin.Version, Endpoint: name, ResourceName: resource, Options: served.options,
	}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	return <-failed
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}
