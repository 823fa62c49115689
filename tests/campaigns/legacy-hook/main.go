// SPDX-License-Identifier: GPL-3.0-or-later

// Command legacy-hook stands in for NVIDIA's container toolkit in legacy mode: an OCI prestart hook that gives a container
// with NVIDIA_VISIBLE_DEVICES a device behind the runtime's back. Cgroup v1 only.
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

const (
	variable = "NVIDIA_VISIBLE_DEVICES="
	device   = "/dev/nvidia0"
	// Those of /dev/fuse, as everywhere in the sandbox.
	major, minor = 10, 229
)

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

// devicesCgroup finds the folder with the device rules of a process.
func devicesCgroup(pid int) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(content), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) == 3 && fields[1] == "devices" {
			return filepath.Join("/sys/fs/cgroup/devices", fields[2]), nil
		}
	}
	return "", fmt.Errorf("process %d has no devices cgroup: expected cgroup v1", pid)
}

func grant() error {
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
	folder, err := devicesCgroup(state.Pid)
	if err != nil {
		return err
	}
	// Through /proc: the container's /dev is mounted in its own namespace only.
	node := filepath.Join(fmt.Sprintf("/proc/%d/root", state.Pid), root, device)
	if err := syscall.Mknod(node, syscall.S_IFCHR|0o666, major<<8|minor); err != nil {
		return fmt.Errorf("mknod %s: %w", node, err)
	}
	if err := os.Chmod(node, 0o666); err != nil {
		return err
	}
	rule := fmt.Sprintf("c %d:%d rw", major, minor)
	return os.WriteFile(filepath.Join(folder, "devices.allow"), []byte(rule), 0)
}

func main() {
	if err := grant(); err != nil {
		log.Fatal("legacy-hook: ", err)
	}
}
