// SPDX-License-Identifier: GPL-3.0-or-later

// Command gpu-stand-in is a device plugin that offers a harmless character device under a GPU's resource name. Devices
// that stand for GPUs on the PCI bus are offered with their NUMA nodes, as NVIDIA's plugin does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	registerTimeout  = 10 * time.Second
	registerAttempts = 30
	pollInterval     = 500 * time.Millisecond
)

// device is what a container gets with an ID: a device node, and the NUMA nodes that the kubelet learns of.
type device struct {
	path     string
	topology *plugin.TopologyInfo
}

// grants is what containers get, by a device's ID.
type grants struct {
	devices map[string]device
	// If set, containers get the devices by CDI, as KIND=ID, instead of by their nodes.
	cdiKind string
}

type standIn struct {
	plugin.UnimplementedDevicePluginServer

	grants
	stopped chan struct{}
}

func (s *standIn) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{}, nil
}

// ListAndWatch reports the devices once: they never change. The stream stays open, since its end means their loss.
func (s *standIn) ListAndWatch(_ *plugin.Empty, stream plugin.DevicePlugin_ListAndWatchServer) error {
	var healthy []*plugin.Device
	for id, offered := range s.devices {
		healthy = append(healthy, &plugin.Device{ID: id, Health: plugin.Healthy, Topology: offered.topology})
	}
	if err := stream.Send(&plugin.ListAndWatchResponse{Devices: healthy}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-s.stopped:
	}
	return nil
}

func (s *standIn) GetPreferredAllocation(
	context.Context, *plugin.PreferredAllocationRequest,
) (*plugin.PreferredAllocationResponse, error) {
	return &plugin.PreferredAllocationResponse{}, nil
}

func (s *standIn) PreStartContainer(
	context.Context, *plugin.PreStartContainerRequest,
) (*plugin.PreStartContainerResponse, error) {
	return &plugin.PreStartContainerResponse{}, nil
}

func (s *standIn) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	response := &plugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		log.Printf("allocated %v", container.DevicesIds)
		response.ContainerResponses = append(response.ContainerResponses, s.allocation(container.DevicesIds))
	}
	return response, nil
}

func (g grants) allocation(ids []string) *plugin.ContainerAllocateResponse {
	answer := &plugin.ContainerAllocateResponse{
		Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(ids, ",")},
	}
	var nodes []string
	for _, id := range ids {
		nodes = append(nodes, g.devices[id].path)
		if g.cdiKind != "" {
			name := g.cdiKind + "=" + filepath.Base(g.devices[id].path)
			answer.CdiDevices = append(answer.CdiDevices, &plugin.CDIDevice{Name: name})
		}
	}
	if g.cdiKind != "" {
		nodes = nil
	}
	slices.Sort(nodes)
	for _, path := range slices.Compact(nodes) {
		answer.Devices = append(answer.Devices, &plugin.DeviceSpec{ContainerPath: path, HostPath: path, Permissions: "rw"})
	}
	return answer
}

// socketName differs by resource, so that a node can have several of these plugins.
func socketName(resource string) string {
	return "gpu-stand-in-" + strings.ReplaceAll(resource, "/", "-") + ".sock"
}

func register(folder, resource string) error {
	ctx, cancel := context.WithTimeout(context.Background(), registerTimeout)
	defer cancel()
	endpoint := "unix://" + filepath.Join(folder, "kubelet.sock")
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = plugin.NewRegistrationClient(connection).Register(ctx, &plugin.RegisterRequest{
		Version:      plugin.Version,
		Endpoint:     socketName(resource),
		ResourceName: resource,
	})
	return err
}

// serve offers the devices until the kubelet restarts, which it shows by emptying the folder.
func serve(folder, resource string, granted grants) error {
	socket := filepath.Join(folder, socketName(resource))
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	stopped := make(chan struct{})
	failed := make(chan error, 1)
	server := grpc.NewServer()
	plugin.RegisterDevicePluginServer(server, &standIn{grants: granted, stopped: stopped})
	go func() { failed <- server.Serve(listener) }()
	defer server.Stop()
	defer close(stopped)

	for attempt := 1; ; attempt++ {
		if err = register(folder, resource); err == nil {
			break
		}
		if attempt == registerAttempts {
			return fmt.Errorf("the kubelet did not take the registration in %d attempts: %w", attempt, err)
		}
		if _, gone := os.Stat(socket); gone != nil {
			return nil
		}
		time.Sleep(pollInterval)
	}
	log.Printf("registered %s with %d device(s)", resource, len(granted.devices))

	for {
		select {
		case err := <-failed:
			return fmt.Errorf("the plugin's server ended: %w", err)
		case <-time.After(pollInterval):
		}
		if _, err := os.Stat(socket); errors.Is(err, os.ErrNotExist) {
			log.Print("the kubelet restarted: registering again")
			return nil
		} else if err != nil {
			return err
		}
	}
}

// onBus returns, by their addresses, the NUMA nodes of the PCI devices with these numbers, VENDOR:DEVICE as the kernel
// writes them. A node is nil where the firmware names none (the kernel says -1): such a device has no hint.
func onBus(folder, numbers string) ([]*plugin.TopologyInfo, error) {
	addresses, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	var found []*plugin.TopologyInfo
	for _, address := range addresses {
		values := map[string]string{}
		for _, file := range []string{"vendor", "device", "numa_node"} {
			text, err := os.ReadFile(filepath.Join(address, file))
			if err != nil {
				return nil, err
			}
			values[file] = strings.TrimSpace(string(text))
		}
		if values["vendor"]+":"+values["device"] != numbers {
			continue
		}
		node, err := strconv.ParseInt(values["numa_node"], 10, 64)
		if err != nil {
			return nil, err
		}
		var topology *plugin.TopologyInfo
		if node >= 0 {
			topology = &plugin.TopologyInfo{Nodes: []*plugin.NUMANode{{ID: node}}}
		}
		found = append(found, topology)
	}
	return found, nil
}

func main() {
	granted := grants{devices: map[string]device{}}
	resource := flag.String("resource", "nvidia.com/gpu", "name of the extended resource")
	count := flag.Int("devices", 1, "number of devices to offer")
	replicas := flag.Int("replicas", 1, "how often each device is offered, for so many containers to share it")
	path := flag.String("path", "/dev/nvidia0", "device node that a container gets with a device; %d: the device's number")
	numbers := flag.String("pci", "", "VENDOR:DEVICE: offer the PCI devices with these numbers instead, where there are any")
	folder := flag.String("folder", strings.TrimSuffix(plugin.DevicePluginPath, "/"), "the kubelet's device plugin folder")
	flag.StringVar(&granted.cdiKind, "cdi", "", "VENDOR/CLASS: name devices by CDI, by the last part of their path")
	flag.Parse()

	topologies := make([]*plugin.TopologyInfo, *count)
	if *numbers != "" {
		found, err := onBus("/sys/bus/pci/devices", *numbers)
		if err != nil {
			log.Fatal(err)
		}
		if len(found) > 0 {
			topologies = found
		}
	}
	for i, topology := range topologies {
		offered := device{strings.ReplaceAll(*path, "%d", strconv.Itoa(i)), topology}
		granted.devices[fmt.Sprintf("GPU-stand-in-%d", i)] = offered
		for replica := 1; replica < *replicas; replica++ {
			granted.devices[fmt.Sprintf("GPU-stand-in-%d-%d", i, replica)] = offered
		}
	}
	for {
		if err := serve(*folder, *resource, granted); err != nil {
			log.Fatal(err)
		}
	}
}
