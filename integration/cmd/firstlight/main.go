// Command firstlight is `make run`: it shows the main job of auditfleet on this
// machine. It makes a CA, starts a collector on loopback and a forwarder that reads this
// machine's kernel and ships over TLS, watches one file of its own, touches it, shows the event as
// `collector search` finds it, and puts everything back. Without root, or
// without kernel audit, it forwards a sample log instead.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder with the forwarder and collector binaries")
	keep := flag.Bool("keep", false, "leave collector and forwarder running, and say how to look around and stop them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "make run:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, keep bool) (returnedErr error) {
	if _, err := os.Stat("/proc/self"); err != nil {
		return errors.New("the programs need /proc (mount -t proc proc /proc)")
	}
	s, err := newStage(bin, keep)
	if err != nil {
		return err
	}
	defer func() { returnedErr = errors.Join(returnedErr, s.close()) }()
	if err := s.startCollector(ctx); err != nil {
		return err
	}
	k, why := openKernel(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if k == nil {
		fmt.Printf("This run forwards a sample log, not this machine's own events: %s.\n\n", why)
		return s.showSample(ctx)
	}
	// The forwarder hands the kernel's audit back at its end; only then can be checked that all is as it was.
	defer func() { returnedErr = errors.Join(returnedErr, s.close(), k.restore()) }()
	return s.showKernel(ctx, k)
}

// showKernel: watch, touch, find.
func (s *stage) showKernel(ctx context.Context, k *kernel) error {
	source := "kernel"
	if k.daemon != 0 {
		source = "multicast"
		fmt.Printf("An audit daemon (pid %d) serves this kernel already: the forwarder listens beside it (--source multicast).\n\n", k.daemon)
	}
	if err := s.startForwarder(ctx, "--source", source); err != nil {
		return err
	}
	watched := filepath.Join(s.dir, "identity.conf")
	if err := os.WriteFile(watched, []byte("before\n"), 0o600); err != nil {
		return err
	}
	key := fmt.Sprintf("first-light-%d", os.Getpid())
	if err := k.enable(ctx); err != nil {
		return err
	}
	if err := k.watch(watched, key); err != nil {
		return err
	}
	fmt.Printf("Watching %s (auditctl -w %s -p wa -k %s), and touching it now.\n", watched, watched, key)
	touched := time.Now()
	if err := touch(ctx, watched); err != nil {
		return err
	}
	// The file narrows it to the touch: adding the watch made an event with this key, too.
	if err := s.find(ctx, touched, "-k", key, "-f", watched); err != nil {
		return err
	}
	if err := s.hosts(ctx); err != nil {
		return err
	}
	if err := k.unwatch(); err != nil {
		return err
	}
	if s.keep {
		k.keepRunning()
		s.sayHowToStop(key)
		return nil
	}
	fmt.Println("\nThe watch is gone and the kernel's audit settings are as they were. KEEP=1 leaves both programs running.")
	return nil
}

// touch opens the file for writing in a process of its own. The kernel audits
// no process that was started before auditing was first switched on, and this
// one was when the machine was never audited until the forwarder came.
// Setting the times alone would not do: it is in none of the permission
// classes that a watch with -p wa looks at.
func touch(ctx context.Context, path string) error {
	if out, err := exec.CommandContext(ctx, "touch", path).CombinedOutput(); err != nil {
		return fmt.Errorf("touch %s: %w\n%s", path, err, out)
	}
	return nil
}

// showSample takes the same path from a file on.
func (s *stage) showSample(ctx context.Context) error {
	sample := filepath.Join(s.dir, "sample.log")
	if err := os.WriteFile(sample, sampleLog, 0o600); err != nil {
		return err
	}
	sent := time.Now()
	if err := s.forwardFile(ctx, sample); err != nil {
		return err
	}
	if err := s.find(ctx, sent, "-k", "identity"); err != nil {
		return err
	}
	if err := s.hosts(ctx); err != nil {
		return err
	}
	if s.keep {
		s.sayHowToStop("identity")
	}
	return nil
}
