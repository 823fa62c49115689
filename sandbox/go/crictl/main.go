// SPDX-License-Identifier: GPL-3.0-or-later

// Command crictl is a stand-in for the real one, which is not published as a Go module that builds by itself: the
// subset that kubeadm calls, and a few listings for whoever looks into a node.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	defaultEndpoint = "unix:///run/containerd/containerd.sock"
	callTimeout     = 60 * time.Second
	stopSeconds     = 10
	shortID         = 13
)

type client struct {
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	quiet   bool
	all     bool
}

func show(value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		fmt.Println(string(text))
	}
	return err
}

func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(shortID, len(id))]
}

func (c *client) version(ctx context.Context) error {
	answer, err := c.runtime.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return err
	}
	return show(answer)
}

func (c *client) info(ctx context.Context) error {
	answer, err := c.runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		return err
	}
	return show(answer)
}

func (c *client) listImages(ctx context.Context) error {
	answer, err := c.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, image := range answer.Images {
		if c.quiet {
			fmt.Println(image.Id)
		} else {
			fmt.Println(short(image.Id), image.Size, strings.Join(image.RepoTags, ","))
		}
	}
	return nil
}

func (c *client) listPods(ctx context.Context) error {
	answer, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	for _, pod := range answer.Items {
		if c.quiet {
			fmt.Println(pod.Id)
		} else {
			fmt.Println(short(pod.Id), pod.State, pod.Metadata.Namespace+"/"+pod.Metadata.Name)
		}
	}
	return nil
}

func (c *client) listContainers(ctx context.Context) error {
	answer, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	for _, container := range answer.Containers {
		if !c.all && container.State != cri.ContainerState_CONTAINER_RUNNING {
			continue
		}
		if c.quiet {
			fmt.Println(container.Id)
			continue
		}
		pod := container.Labels["io.kubernetes.pod.namespace"] + "/" + container.Labels["io.kubernetes.pod.name"]
		fmt.Println(container.Id, container.State, pod+"/"+container.Metadata.Name, container.Metadata.Attempt)
	}
	return nil
}

// each returns the commands that take names.
func (c *client) each() map[string]func(context.Context, string) error {
	return map[string]func(context.Context, string) error{
		"inspecti": func(ctx context.Context, name string) error {
			answer, err := c.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
			if err != nil {
				return err
			}
			if answer.Image == nil {
				return fmt.Errorf("no such image %q present", name)
			}
			return show(answer.Image)
		},
		"pull": func(ctx context.Context, name string) error {
			answer, err := c.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}})
			if err == nil {
				fmt.Println("Image is up to date for", answer.ImageRef)
			}
			return err
		},
		"inspect": func(ctx context.Context, id string) error {
			answer, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
			if err != nil {
				return err
			}
			return show(answer)
		},
		"stopp": func(ctx context.Context, id string) error {
			_, err := c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
			return err
		},
		"rmp": func(ctx context.Context, id string) error {
			_, err := c.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		},
		"stop": func(ctx context.Context, id string) error {
			_, err := c.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: stopSeconds})
			return err
		},
		"rm": func(ctx context.Context, id string) error {
			_, err := c.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
			return err
		},
	}
}

func (c *client) run(ctx context.Context, command string, names []string) error {
	switch command {
	case "version":
		return c.version(ctx)
	case "info":
		return c.info(ctx)
	case "images":
		return c.listImages(ctx)
	case "pods":
		return c.listPods(ctx)
	case "ps":
		return c.listContainers(ctx)
	}
	action, known := c.each()[command]
	if !known {
		return fmt.Errorf("command %q is not in this stand-in for crictl", command)
	}
	for _, name := range names {
		if err := action(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// parse reads flags wherever they stand, as the real crictl does.
func parse(flags *flag.FlagSet, arguments []string) []string {
	var words []string
	for len(arguments) > 0 {
		_ = flags.Parse(arguments) // ExitOnError
		if flags.NArg() == 0 {
			break
		}
		words = append(words, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
	return words
}

func main() {
	endpoint := os.Getenv("CONTAINER_RUNTIME_ENDPOINT")
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	var c client
	var showVersion, force bool
	flags := flag.NewFlagSet("crictl", flag.ExitOnError)
	for _, name := range []string{"r", "runtime-endpoint", "i", "image-endpoint"} {
		flags.StringVar(&endpoint, name, endpoint, "the container runtime's socket")
	}
	for _, name := range []string{"q", "quiet"} {
		flags.BoolVar(&c.quiet, name, false, "print IDs only")
	}
	for _, name := range []string{"a", "all"} {
		flags.BoolVar(&c.all, name, false, "list stopped containers too")
	}
	for _, name := range []string{"v", "version"} {
		flags.BoolVar(&showVersion, name, false, "print the version")
	}
	for _, name := range []string{"f", "force"} {
		flags.BoolVar(&force, name, false, "accepted for kubeadm's sake")
	}
	_ = flags.String("o", "json", "accepted for kubeadm's sake")
	words := parse(flags, os.Args[1:])
	if showVersion {
		fmt.Println("crictl version v1.22.0-sandbox")
		return
	}
	if len(words) == 0 {
		flags.Usage()
		os.Exit(2)
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "unix://" + endpoint
	}
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		c.runtime, c.images = cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		err = c.run(ctx, words[0], words[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FATA", err)
		os.Exit(1)
	}
}
