package event

import "net/netip"

// Sender is who sent an event's records to a collector, as far as the collector knows
// that itself: what the records say does not count. Equal Senders are the same one.
type Sender struct {
	// Host is the name that the sender has proved; "" where nothing proves one.
	Host string
	// Addr is where its connection came from: without a zone, and not an IPv4
	// address mapped into IPv6. Not valid: the collector itself.
	Addr      netip.Addr
	Transport Transport
}

// Transport is how records came. The numbers are stored: only append.
type Transport uint8

// The transports.
const (
	TransportUnknown Transport = iota
	TransportOwn               // the collector's own records
	TransportTCP               // audisp-remote's protocol, in clear text
)

// String returns the transport's name.
func (t Transport) String() string {
	switch t {
	case TransportOwn:
		return "own"
	case TransportTCP:
		return "tcp"
	default:
		return "unknown"
	}
}

// SenderAddr returns a connection's address in the form that Sender.Addr has.
func SenderAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
