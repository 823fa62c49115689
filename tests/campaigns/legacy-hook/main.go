// SPDX-License-Identifier: GPL-3.0-or-later

// Command legacy-hook stands in for NVIDIA's container toolkit in legacy mode: an OCI prestart hook that gives a container
// with NVIDIA_VISIBLE_DEVICES the devices that its arguments name behind the runtime's back, with cgroup v1 and v2.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const variable = "NVIDIA_VISIBLE_DEVICES="

// device is a device node of this machine.
type device struct {
	path         string
	number       uint64
	major, minor uint32
}

func readJSON(path string, target any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, target)
}

// wanted says whether the container's environment asks for a GPU.
func wanted(environment []string) bool {
	for _, entry := range environment {
		if value, found := strings.CutPrefix(entry, variable); found {
			return value != "" && value != "void" && value != "none"
		}
	}
	return false
}

func look(path string) (device, error) {
	var status syscall.Stat_t
	if err := syscall.Stat(path, &status); err != nil {
		return device{}, fmt.Errorf("%s: %w", path, err)
	}
	number := status.Rdev
	major := uint32(number>>8&0xfff | number>>32&^0xfff)
	return device{path, number, major, uint32(number&0xff | number>>12&^0xff)}, nil
}

// cgroupOf finds the folder with the device rules of a process, and whether it is of version 2.
func cgroupOf(pid int) (string, bool, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", false, err
	}
	unified := ""
	for _, line := range strings.Split(string(content), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			continue
		}
		if fields[1] == "devices" {
			return filepath.Join("/sys/fs/cgroup/devices", fields[2]), false, nil
		}
		if fields[1] == "" {
			unified = filepath.Join("/sys/fs/cgroup", fields[2])
		}
	}
	if unified == "" {
		return "", false, fmt.Errorf("process %d has neither a devices cgroup nor one of version 2", pid)
	}
	return unified, true, nil
}

// create makes a device node in a container's root.
func create(root string, dev device) error {
	node := filepath.Join(root, dev.path)
	if err := syscall.Mknod(node, syscall.S_IFCHR|0o666, int(dev.number)); err != nil {
		return fmt.Errorf("mknod %s: %w", node, err)
	}
	return os.Chmod(node, 0o666)
}

func grant(paths []string) error {
	var state struct {
		Pid    int
		Bundle string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return err
	}
	var bundle struct {
		Process struct{ Env []string }
		Root    struct{ Path string }
	}
	if err := readJSON(filepath.Join(state.Bundle, "config.json"), &bundle); err != nil {
		return err
	}
	if !wanted(bundle.Process.Env) {
		return nil
	}
	root := bundle.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(state.Bundle, root)
	}
	// Through /proc: the container's /dev is mounted in its own namespace only.
	root = filepath.Join(fmt.Sprintf("/proc/%d/root", state.Pid), root)
	folder, unified, err := cgroupOf(state.Pid)
	if err != nil {
		return err
	}
	var devices []device
	for _, path := range paths {
		dev, err := look(path)
		if err != nil {
			return err
		}
		if err := create(root, dev); err != nil {
			return err
		}
		devices = append(devices, dev)
	}
	if unified {
		return allowUnified(folder, devices)
	}
	for _, dev := range devices {
		rule := fmt.Sprintf("c %d:%d rw", dev.major, dev.minor)
		if err := os.WriteFile(filepath.Join(folder, "devices.allow"), []byte(rule), 0); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := grant(os.Args[1:]); err != nil {
		log.Fatal("legacy-hook: ", err)
	}
}
