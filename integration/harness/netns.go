package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace without a name. It lives as long as its holder, a child
// process, and whoever was started in it: links, addresses and nft tables end with it, also
// when this process is killed.
type Netns struct {
	Name   string // for messages
	holder *Proc
}

// NewNetns makes a namespace in which only lo is there, and up.
func NewNetns(name string) (*Netns, error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	p, err := Start(Spec{Name: "holder of " + name, Args: []string{"unshare", "-n", "sh", "-c", "echo ready; exec sleep infinity"}})
	if err != nil {
		return nil, err
	}
	n := &Netns{Name: name, holder: p}
	ready := Poll(time.Minute, func() bool { return p.Exited() || strings.Contains(p.Output(), "ready") })
	if ns, err := os.Readlink(n.file()); !ready || err != nil || ns == own {
		p.Kill()
		return nil, fmt.Errorf("no network namespace can be made: unshare -n: %w %s", err, p.Output())
	}
	if err := n.Do("ip", "link", "set", "lo", "up"); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// file is the namespace as nsenter and setns take it.
func (n *Netns) file() string { return fmt.Sprintf("/proc/%d/ns/net", n.holder.Pid()) }

// Args returns the command line that runs another one in the namespace. nil: in this
// process's own.
func (n *Netns) Args(args ...string) []string {
	if n == nil {
		return args
	}
	return append([]string{"nsenter", "--net=" + n.file()}, args...)
}

// Do runs a command in the namespace. An error has what it printed.
func (n *Netns) Do(args ...string) error {
	r, err := Run(time.Minute, n.Args(args...)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("in %s: %s: exit %d: %s%s", n.Name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return err
}

// In runs f in the namespace: sockets made there stay there. nil: anywhere. The thread
// comes back from there and lives on: with it would die every child that was started on it
// (Pdeathsig).
func (n *Netns) In(f func() error) error {
	if n == nil {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open(n.file())
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", n.Name, err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("a thread cannot come back from %s: %v", n.Name, err)) // all else on it would be there
		}
	}()
	return f()
}

// DialContext is net.Dialer's, in the namespace. The address must be a numeric one, for
// which the dialer has no need of another thread.
func (n *Netns) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = n.In(func() error {
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Close ends the namespace, once nothing else runs in it.
func (n *Netns) Close() { n.holder.Kill() }

// Fault is what is wrong with a cable.
type Fault string

const (
	// CableCut answers whatever the client sends with a reset: its connections break.
	CableCut Fault = "cut"
	// CableDeaf swallows what the client sends, and CableMute what the server sends.
	CableDeaf Fault = "deaf"
	CableMute Fault = "mute"
	// CableHole swallows both.
	CableHole Fault = "hole"
	// CablePulled is a cable that somebody has pulled out of the server.
	CablePulled Fault = "pulled"
)

// CableFaults lists all.
func CableFaults() []Fault { return []Fault{CableCut, CableDeaf, CableMute, CableHole, CablePulled} }

// Cable is a veth pair from a client to a server, of which the client reaches the server's
// address over it.
type Cable struct {
	server *Netns
	dev    string // at the server
	fault  Fault
}

// faultTable has a set of links for each fault.
const faultTable = `table inet chaos {
	set cut { type ifname; }
	set deaf { type ifname; }
	set mute { type ifname; }
	chain in {
		type filter hook input priority 0;
		iifname @deaf drop
		iifname @cut meta l4proto tcp reject with tcp reset
	}
	chain out {
		type filter hook output priority 0;
		oifname @mute drop
	}
}
`

// Serve gives a namespace an address of its own, whatever cable it is asked for over, and
// what its cables' faults are made with.
func (n *Netns) Serve(addr string) error {
	if err := n.Do("ip", "addr", "add", addr+"/32", "dev", "lo"); err != nil {
		return err
	}
	r, err := RunInput(time.Minute, strings.NewReader(faultTable), n.Args("nft", "-f", "-")...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("nft -f -: exit %d: %s", r.Code, r.Stderr)
	}
	return err
}

// NewCable lays cable number id, 0 to 250, from a client to a server at addr.
func NewCable(id int, client, server *Netns, addr string) (*Cable, error) {
	c := &Cable{server: server, dev: fmt.Sprintf("s%d", id)}
	dev, near, far := fmt.Sprintf("c%d", id), fmt.Sprintf("10.211.%d.2", id), fmt.Sprintf("10.211.%d.1", id)
	for _, step := range []struct {
		in   *Netns
		line string
	}{
		{client, fmt.Sprintf("ip link add %s type veth peer name %s netns %d", dev, c.dev, server.holder.Pid())},
		{client, fmt.Sprintf("ip addr add %s/30 dev %s", near, dev)},
		{server, fmt.Sprintf("ip addr add %s/30 dev %s", far, c.dev)},
		{client, "ip link set " + dev + " up"},
		{server, "ip link set " + c.dev + " up"},
		{client, fmt.Sprintf("ip route add %s via %s", addr, far)},
	} {
		if err := step.in.Do(strings.Fields(step.line)...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Fault returns what is wrong with the cable, "" for nothing.
func (c *Cable) Fault() Fault { return c.fault }

// Break gives a whole cable a fault.
func (c *Cable) Break(f Fault) error {
	c.fault = f
	return c.apply("add", "down")
}

// Mend takes its fault away again.
func (c *Cable) Mend() error {
	if c.fault == "" {
		return nil
	}
	err := c.apply("delete", "up")
	c.fault = ""
	return err
}

func (c *Cable) apply(element, link string) error {
	sets := []string{string(c.fault)}
	switch c.fault {
	case CablePulled:
		return c.server.Do("ip", "link", "set", c.dev, link)
	case CableHole:
		sets = []string{string(CableDeaf), string(CableMute)}
	}
	for _, set := range sets {
		if err := c.server.Do("nft", element, "element", "inet", "chaos", set, fmt.Sprintf("{ %q }", c.dev)); err != nil {
			return err
		}
	}
	return nil
}
