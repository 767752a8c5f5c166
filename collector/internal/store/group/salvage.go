package group

import "github.com/auditfleet/auditfleet/pkg/event"

// Salvage does what Verify does, and calls fn with each event that can be read and the
// name of its host, block by block. The event is valid until fn returns.
func (c *Codec) Salvage(b []byte, fn func(host string, ev *event.Event)) *Verified {
	v := &verifier{c: c, b: b, out: &Verified{Hosts: map[string]HostSum{}}, event: fn}
	v.run()
	return v.out
}
