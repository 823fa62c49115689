// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// The values of struct bpf_cgroup_dev_ctx and of its access_type (Linux, include/uapi/linux/bpf.h).
const (
	characterDevice = 2
	offsetMajor     = 4
	offsetMinor     = 8
	allowMulti      = 2
	original        = "original"
)

// allowUnified puts rules for devices in front of each device program of a cgroup of version 2, as libnvidia-container
// does (src/nvcgo/internal/cgroup/v2.go): every attached program has to agree, so each gets them.
func allowUnified(folder string, devices []device) error {
	group, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer group.Close()
	attached, err := link.QueryPrograms(link.QueryOptions{Target: int(group.Fd()), Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return fmt.Errorf("device programs of %s: %w", folder, err)
	}
	for _, found := range attached.Programs {
		if err := extend(int(group.Fd()), found.ID, devices); err != nil {
			return fmt.Errorf("device program %d of %s: %w", found.ID, folder, err)
		}
	}
	return nil
}

// extend replaces an attached program by one that allows the devices and otherwise does the same.
func extend(group int, id ebpf.ProgramID, devices []device) error {
	old, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Info()
	if err != nil {
		return err
	}
	instructions, err := info.Instructions()
	if err != nil {
		return err
	}
	extended, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.CGroupDevice,
		Instructions: allowing(devices, instructions),
		License:      "GPL",
	})
	if err != nil {
		return err
	}
	defer extended.Close()
	err = link.RawDetachProgram(link.RawDetachProgramOptions{
		Target: group, Program: old, Attach: ebpf.AttachCGroupDevice,
	})
	if err != nil {
		return err
	}
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: group, Program: extended, Attach: ebpf.AttachCGroupDevice, Flags: allowMulti,
	})
}

// allowing is a program that allows the devices, and leaves all others to the instructions that follow.
func allowing(devices []device, rest asm.Instructions) asm.Instructions {
	var made asm.Instructions
	next := func(index int) string {
		if index == len(devices) {
			return original
		}
		return fmt.Sprintf("device-%d", index)
	}
	for index, dev := range devices {
		after := next(index + 1)
		made = append(
			made,
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Half).WithSymbol(next(index)),
			asm.JNE.Imm(asm.R2, characterDevice, after),
			asm.LoadMem(asm.R3, asm.R1, offsetMajor, asm.Word),
			asm.JNE.Imm(asm.R3, int32(dev.major), after),
			asm.LoadMem(asm.R3, asm.R1, offsetMinor, asm.Word),
			asm.JNE.Imm(asm.R3, int32(dev.minor), after),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		)
	}
	rest[0] = rest[0].WithSymbol(original)
	return append(made, rest...)
}
