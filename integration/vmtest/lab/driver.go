package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// driver speaks with the agent of a guest over its virtio port, one line of JSON each way;
// integration/vmtest/agent has the other end.
type driver struct {
	port    net.Conn
	console *Console

	mu      sync.Mutex // guards the rest
	turned  chan struct{}
	current string // boot of the agent that spoke last
	asked   int
	waiting map[int]chan answer
	gone    bool
}

type request struct {
	ID      int
	Command string
	Input   []byte
	Timeout time.Duration
}

type answer struct {
	ID       int
	Boot     string
	Code     int
	Out, Err []byte
}

// Result is what a command printed, and its exit code: -1 for one that was killed.
type Result struct {
	Code     int
	Out, Err string
}

func newDriver(port net.Conn, console *Console) *driver {
	d := &driver{port: port, console: console, turned: make(chan struct{}), waiting: map[int]chan answer{}}
	go d.read()
	return d
}

// read runs until the port is closed.
func (d *driver) read() {
	lines := bufio.NewReader(d.port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var a answer
		if json.Unmarshal(line, &a) != nil {
			continue // cut off by the machine's end
		}
		d.mu.Lock()
		if a.Boot != "" {
			d.current = a.Boot
			d.drop() // what the one before was asked it does not answer
			close(d.turned)
			d.turned = make(chan struct{})
		} else if c := d.waiting[a.ID]; c != nil {
			delete(d.waiting, a.ID)
			c <- a
		}
		d.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	d.drop()
}

// drop ends all waits. mu is held.
func (d *driver) drop() {
	for id, c := range d.waiting {
		close(c)
		delete(d.waiting, id)
	}
}

func (d *driver) close() {
	_ = d.port.Close()
	d.console.close()
}

func (d *driver) boot() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// booted waits for the agent of another boot than before.
func (d *driver) booted(ctx context.Context, ended <-chan struct{}, before string) error {
	for {
		d.mu.Lock()
		now, turned := d.current, d.turned
		d.mu.Unlock()
		if now != "" && now != before {
			return nil
		}
		select {
		case <-turned:
		case <-ended:
			return errors.New("qemu ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run has the guest's shell run a command, as root, and waits for its end. What it leaves
// in the background must not hold its output. A guest that stops meanwhile is an error.
func (g *Guest) Run(ctx context.Context, command string) (Result, error) {
	return g.RunWith(ctx, nil, command)
}

// RunWith is Run with a standard input.
func (g *Guest) RunWith(ctx context.Context, input []byte, command string) (Result, error) {
	begun := time.Now()
	r, err := g.ask(ctx, input, command)
	g.step(fmt.Sprintf("%s %.1fs code %d %v: %s", begun.UTC().Format(time.TimeOnly), time.Since(begun).Seconds(), r.Code, err, command))
	return r, err
}

func (g *Guest) ask(ctx context.Context, input []byte, command string) (Result, error) {
	d := g.driver
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := make(chan answer, 1)
	d.mu.Lock()
	if d.gone {
		d.mu.Unlock()
		return Result{}, fmt.Errorf("%s is off: %s", g.spec.Name, command)
	}
	d.asked++
	id := d.asked
	d.waiting[id] = c
	d.mu.Unlock()
	line, err := json.Marshal(request{ID: id, Command: command, Input: input, Timeout: patience - 10*time.Second})
	if err != nil {
		return Result{}, err
	}
	if _, err := d.port.Write(append(line, '\n')); err != nil {
		return Result{}, fmt.Errorf("%s: %w", g.spec.Name, err)
	}
	select {
	case a, ok := <-c:
		if !ok {
			return Result{}, fmt.Errorf("%s stopped before this ended: %s", g.spec.Name, command)
		}
		return Result{Code: a.Code, Out: string(a.Out), Err: string(a.Err)}, nil
	case <-ctx.Done():
		return Result{}, fmt.Errorf("%s: %w: %s", g.spec.Name, ctx.Err(), command)
	}
}

// Must is Run of a command that has to succeed; it returns what that printed.
func (g *Guest) Must(ctx context.Context, command string) (string, error) {
	r, err := g.Run(ctx, command)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: exit code %d: %s\n%s%s", g.spec.Name, r.Code, command, r.Out, r.Err)
	}
	return r.Out, err
}

// Write makes a file in the guest.
func (g *Guest) Write(ctx context.Context, path string, mode int, text []byte) error {
	r, err := g.RunWith(ctx, text, fmt.Sprintf("cat >'%s' && chmod %o '%s'", path, mode, path))
	if err == nil && r.Code != 0 {
		err = errors.New(r.Err)
	}
	return err
}

// Until runs a command, again and again, until it succeeds.
func (g *Guest) Until(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := g.Run(ctx, command)
		if err != nil || r.Code == 0 {
			return r.Out, err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%s: it never came: %s: %s%s", g.spec.Name, command, r.Out, r.Err)
		case <-time.After(time.Second):
		}
	}
}

// Settle waits until everything that boots has started, or failed to.
func (g *Guest) Settle(ctx context.Context) error {
	out, err := g.Must(ctx, "systemctl is-system-running --wait || :")
	if err == nil && strings.TrimSpace(out) == "" {
		err = errors.New("systemd did not answer")
	}
	return err
}
