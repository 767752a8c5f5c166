package agent

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
)

// hello returns what a transport tells a server of this host as it connects.
func (a *Agent) hello() func() ship.Hello {
	h := ship.Hello{Host: a.cfg.Node, Boot: a.alive.boot, Program: "auditfleet forwarder " + a.cfg.Version}
	if h.Host == "" {
		h.Host, _ = os.Hostname() // "" where there is none
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return func() ship.Hello {
		h := h
		h.Lost = a.losses()
		if k, ok := a.src.(*kernelSource); ok {
			if sum := k.rules.Load(); sum != nil {
				h.Rules = *sum
			}
		}
		return h
	}
}
