package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// An attack runs in a process of its own, so that the good senders' clocks don't wait for
// it, and as a network would have it: it yields the cores to the server and sends no more
// than a wire of a gigabit carries.
const (
	attackNice = 10
	attackRate = 125_000_000 // bytes/s
)

// attackState is what an attack has done so far.
type attackState struct {
	writes, renewed int64
	cpu             time.Duration
}

// attackOnly is that process: it says "ready" when it is connected, its state for each
// line of its input, and ends with that.
func attackOnly(name, addr string, conns int) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, attackNice); err != nil {
		return err
	}
	if err := harness.RaiseDescriptors(uint64(conns) + 1024); err != nil {
		return err
	}
	evil := &harness.Hostile{Addr: to, Conns: conns, Attack: name, Rate: attackRate}
	if err := evil.Connect(); err != nil {
		return err
	}
	defer evil.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); evil.Run(stop) }()
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			return err
		}
		w, n := evil.Did()
		fmt.Println(w, n, u.Utime.Nano()+u.Stime.Nano())
	}
	close(stop)
	<-stopped
	return nil
}

// attacker is such a process.
type attacker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startAttack returns when all its connections stand.
func (b *bench) startAttack(name, addr string) (*attacker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &attacker{cmd: exec.CommandContext(b.ctx, self, "-attack", name, "-attackers", strconv.Itoa(b.attackers), addr)}
	a.cmd.Stderr = os.Stderr
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.out = bufio.NewReader(out)
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := a.out.ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("the attack began with %q: %w", line, err), a.end())
	}
	return a, nil
}

// state asks what it has done.
func (a *attacker) state() (s attackState, err error) {
	if _, err := io.WriteString(a.in, "\n"); err != nil {
		return s, err
	}
	_, err = fmt.Fscanln(a.out, &s.writes, &s.renewed, &s.cpu)
	return s, err
}

func (a *attacker) end() error {
	return errors.Join(a.in.Close(), a.cmd.Wait())
}
