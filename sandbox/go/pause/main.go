// SPDX-License-Identifier: GPL-3.0-or-later

// Command pause holds a pod's namespaces: it sleeps, and reaps orphans where the pod's processes share its PID namespace.
// `pause -v` ends at once, as Kubernetes' own does: kubeadm's health check before an upgrade runs it in a Job.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		fmt.Println("pause: the sandbox's stand-in")
		return
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid <= 0 {
				break
			}
		}
	}
}
