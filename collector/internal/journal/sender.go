package journal

import (
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Sender is who sent a batch, as far as its transport knows: what the records say of
// themselves (node=) is apart from it.
type Sender struct {
	// Verified is the name that the sender has proved, by a certificate or a key; ""
	// where its transport proves none. Nobody changes it afterwards.
	Verified string
	// Node is the name that records without node= go by where none is verified: what
	// the administrator's hosts file says of the address, else what the sender claims
	// to be, else the address itself in words.
	Node string
	// Addr is where its connection comes from; not valid: the collector itself.
	Addr      netip.AddrPort
	Transport event.Transport
}

// Name is the name that the sender's records without node= go by; "" is none.
func (s *Sender) Name() string {
	if s.Verified != "" {
		return s.Verified
	}
	return s.Node
}

// IP is the address without port and zone, and not mapped into IPv6; not valid: the
// collector itself.
func (s *Sender) IP() netip.Addr { return event.SenderAddr(s.Addr.Addr()) }

// Event is the sender as the batch's events have it.
func (s *Sender) Event() event.Sender {
	return event.Sender{Host: s.Verified, Addr: s.IP(), Transport: s.Transport}
}

// identity tells senders apart for resend detection: by the name that one has proved,
// from whatever address it comes, else by its address, whatever the port.
type identity struct {
	name string     // "" where addr counts
	addr netip.Addr // as IP gives it
}

func (id identity) String() string {
	if id.name != "" {
		return id.name
	}
	return id.addr.String()
}

func (s *Sender) identity() identity {
	if s.Verified != "" {
		return identity{name: s.Verified}
	}
	return identity{addr: s.IP()}
}
