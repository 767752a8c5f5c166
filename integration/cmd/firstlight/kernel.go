package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	libaudit "github.com/elastic/go-libaudit/v2"

	"github.com/auditfleet/auditfleet/internal/holder"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// kernel is this machine's audit: what it was when we came, and what we added.
type kernel struct {
	client  *libaudit.AuditClient
	daemon  uint32 // pid of the audit daemon that was registered, 0 for none
	enabled uint32 // as found: 0 off, 1 on, 2 locked
	rule    []byte // our watch while it is loaded
	lock    *os.File
	kept    bool
}

// openKernel returns nil and the reason when this process cannot use the
// kernel's audit.
func openKernel(ctx context.Context) (*kernel, string) {
	if os.Geteuid() != 0 {
		return nil, "it needs root to read the kernel's audit"
	}
	lock, err := lockKernel(ctx)
	if err != nil {
		return nil, err.Error()
	}
	client, err := libaudit.NewAuditClient(nil)
	if err != nil {
		lock.Close()
		return nil, "this kernel has no audit: " + err.Error()
	}
	status, err := client.GetStatus()
	if err != nil {
		client.Close()
		lock.Close()
		return nil, "the kernel's audit status cannot be read (a container?): " + err.Error()
	}
	if status.Enabled == 2 {
		client.Close()
		lock.Close()
		return nil, "the kernel's audit rules are locked until the next boot (enabled 2), so no watch can be added"
	}
	return &kernel{client: client, lock: lock, daemon: status.PID, enabled: status.Enabled}, ""
}

// lockName is held by every test of this tree that uses the kernel, too.
const lockName = "/run/auditfleet-kernel-test.lock"

// lockKernel takes the lock; where another has it, it says so and waits until
// that one ends or ctx does.
func lockKernel(ctx context.Context) (*os.File, error) {
	lock, err := os.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", lockName, err), lock.Close())
		}
		if !said {
			_, who := holder.Of(lockName)
			fmt.Printf("Waiting for %s: %s uses the kernel's audit. ^C ends the wait.\n", lockName, who)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), lock.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// enable waits for the forwarder to have switched auditing on, as auditd does;
// beside another daemon nobody else would.
func (k *kernel) enable(ctx context.Context) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		status, err := k.client.GetStatus()
		if err != nil {
			return fmt.Errorf("read audit status: %w", err)
		}
		if status.Enabled == 1 && (status.PID != 0 || k.daemon != 0) {
			return nil
		}
		if k.daemon != 0 && status.Enabled == 0 {
			return errors.New("auditing is switched off on this machine (auditctl -s: enabled 0); switch it on with auditctl -e 1 and try again")
		}
		if time.Now().After(deadline) {
			return errors.New("the forwarder did not register with the kernel within 5 s")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (k *kernel) watch(path, key string) error {
	command, err := rules.ParseArgs([]string{"-w", path, "-p", "wa", "-k", key}, rules.SystemEnv())
	if err != nil {
		return fmt.Errorf("read the watch: %w", err)
	}
	wire, err := command.Rule().Marshal()
	if err != nil {
		return fmt.Errorf("build the watch: %w", err)
	}
	if err := k.client.AddRule(wire); err != nil {
		return fmt.Errorf("add the watch: %w", err)
	}
	k.rule = bytes.Clone(wire)
	return nil
}

func (k *kernel) unwatch() error {
	if k.rule == nil {
		return nil
	}
	if err := k.client.DeleteRule(k.rule); err != nil {
		return fmt.Errorf("take the watch out: %w", err)
	}
	k.rule = nil
	return nil
}

// keepRunning leaves auditing as the forwarder, which stays, has set it.
func (k *kernel) keepRunning() { k.kept = true }

// restore runs after the forwarder has ended and looks that everything is as
// it was.
func (k *kernel) restore() error {
	defer k.lock.Close()
	defer k.client.Close()
	errs := []error{k.unwatch()}
	if k.kept {
		return errors.Join(errs...)
	}
	status, err := k.client.GetStatus()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if status.Enabled != k.enabled {
		errs = append(errs, k.client.SetEnabled(k.enabled == 1, libaudit.WaitForReply))
	}
	if status.PID != k.daemon {
		errs = append(errs, fmt.Errorf("the kernel's audit daemon is pid %d now, and was %d", status.PID, k.daemon))
	}
	return errors.Join(errs...)
}
