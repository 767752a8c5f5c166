package secure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/psktls"
)

// PSK is TLS 1.3 with pre-shared keys, as stock senders of audit 4.2 speak it: who may
// connect, and who does. Its methods may be called at once.
type PSK struct {
	current atomic.Pointer[pskState]

	mu   sync.Mutex
	held map[*pskHold]struct{} // guarded by mu: sessions
}

// pskState is what was read of the files; it does not change.
type pskState struct {
	config  *psktls.Config
	enabled func(identity string) bool
}

type pskHold struct {
	identity string
	cut      func(error)
}

// OpenPSK reads keys and identities.
func OpenPSK(s psktls.Settings) (*PSK, error) {
	p := &PSK{held: map[*pskHold]struct{}{}}
	return p, p.Reload(s)
}

// Reload reads them again, and cuts off those who may not connect any more. What is wrong
// leaves all as it was.
func (p *PSK) Reload(s psktls.Settings) error {
	config, allowed, err := s.Server()
	if err != nil {
		return fmt.Errorf("TLS with pre-shared keys: %w", err)
	}
	state := &pskState{config: config, enabled: func(identity string) bool { return identity == s.PSKIdentity }}
	if allowed != nil {
		state.enabled = allowed.Enabled
	}
	p.current.Store(state)
	p.mu.Lock()
	var gone []*pskHold
	for h := range p.held {
		if !state.enabled(h.identity) {
			delete(p.held, h)
			gone = append(gone, h)
		}
	}
	p.mu.Unlock()
	for _, h := range gone {
		h.cut(fmt.Errorf("%q is cut off: %w", h.identity, psktls.ErrDisabledIdentity))
	}
	return nil
}

// Handshake is a Handshake.
func (p *PSK) Handshake(under net.Conn) (net.Conn, *Peer, error) {
	c := psktls.Server(under, p.current.Load().config)
	if err := c.Handshake(context.Background()); err != nil { // bounded by the connection's deadline
		return nil, nil, err
	}
	state := c.ConnectionState()
	return c, &Peer{
		Name: state.Identity, Transport: event.TransportPSK,
		Session: pki.Session{Cipher: state.Suite.String(), Bits: state.Suite.KeyBits(), Group: state.Group.String(), Auth: pki.AuthPSK},
		Hold:    func(cut func(error)) (func(), error) { return p.hold(state.Identity, cut) },
	}, nil
}

// hold has a session cut off when a Reload disables its identity.
func (p *PSK) hold(identity string, cut func(error)) (release func(), err error) {
	h := &pskHold{identity, cut}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.current.Load().enabled(identity) { // a Reload since the handshake
		return nil, psktls.ErrDisabledIdentity
	}
	p.held[h] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.held, h)
	}, nil
}

// pskReasons are the words for errors of PSK.
var pskReasons = []struct {
	err  error
	word string
}{
	{psktls.ErrUnknownIdentity, "unknown-identity"}, {psktls.ErrDisabledIdentity, "disabled-identity"}, {psktls.ErrWrongKey, "wrong-key"},
	{psktls.ErrNoKeyOffered, "no-key"}, {psktls.ErrNotPQC, "not-pqc"}, {psktls.ErrNotTLS, string(pki.NotTLS)},
}

// Reasons are all words that Refused may be told, for a counter with each of them.
func Reasons() (words []string) {
	for _, r := range pki.Reasons {
		words = append(words, string(r))
	}
	words = append(words, reasonTimeout, reasonCrowded)
	for _, r := range pskReasons {
		if !slices.Contains(words, r.word) { // not-tls is of both
			words = append(words, r.word)
		}
	}
	return words
}

// PSKReason is the word for an error of PSK.
func PSKReason(err error) string {
	for _, r := range pskReasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	var a *psktls.LocalAlert
	if errors.As(err, &a) && a.Alert == psktls.AlertProtocolVersion {
		return string(pki.OldProtocol)
	}
	return string(pki.Broken)
}
