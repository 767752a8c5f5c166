package api

import (
	"fmt"
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// toSender is a sender as it travels.
func toSender(s *event.Sender) *fleet.Sender {
	out := &fleet.Sender{Host: []byte(s.Host), Transport: uint32(s.Transport)}
	if s.Addr.IsValid() {
		out.Address = s.Addr.String()
	}
	return out
}

// fromSenders is the reverse of toSender, for all of a response.
func fromSenders(list []*fleet.Sender) ([]event.Sender, error) {
	out := make([]event.Sender, len(list))
	for i, s := range list {
		out[i] = event.Sender{Host: string(s.GetHost()), Transport: event.Transport(s.GetTransport())}
		if s.GetAddress() == "" {
			continue
		}
		addr, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			return nil, fmt.Errorf("%w: a sender: %w", errResponse, err)
		}
		out[i].Addr = addr
	}
	return out, nil
}

// setOrigin gives an event who sent it and when it was received.
func setOrigin(ev *event.Event, e *fleet.Event, senders []event.Sender) error {
	n := e.GetSender()
	if uint64(n) > uint64(len(senders)) {
		return fmt.Errorf("%w: sender %d of %d", errResponse, n, len(senders))
	}
	if n > 0 {
		ev.From = &senders[n-1]
	}
	at, later := e.GetReceivedMs(), e.GetLaterMs()
	for i := range ev.Records {
		if i > 0 && i <= len(later) {
			at += later[i-1]
		}
		ev.Records[i].Received = at
	}
	return nil
}
