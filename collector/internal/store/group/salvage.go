package group

import "github.com/auditfleet/auditfleet/pkg/event"

// Salvage is Verify that gives fn each event that can be read, with the name of
// its host, block by block. The event is valid during the call.
func (c *Codec) Salvage(b []byte, fn func(host string, ev *event.Event)) *Verified {
	v := &verifier{c: c, b: b, out: &Verified{Hosts: map[string]HostSum{}}, event: fn}
	v.run()
	return v.out
}
