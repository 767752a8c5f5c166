package psktls

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

// serverShake is the server's side of a handshake.
type serverShake struct {
	*handshake
	hello    *clientHello
	group    Group
	identity string
	index    int // of the identity in the hello
}

// shakeAsServer answers a hello (RFC 8446, figure 1, without certificates). Its caller
// holds the locks.
func (c *Conn) shakeAsServer(choices *choices) error {
	if c.config.Lookup == nil {
		return errors.New("tls: there is nothing to look up keys by")
	}
	h := &serverShake{handshake: c.newHandshake(choices)}
	defer h.done()
	if err := h.readHello(); err != nil {
		return err
	}
	if err := h.choose(); err != nil {
		return err
	}
	if err := h.authenticate(); err != nil {
		return err
	}
	if _, ok := h.hello.share(h.group); !ok {
		if err := h.askAgain(); err != nil {
			return err
		}
	}
	if err := h.answer(); err != nil {
		return err
	}
	return h.finish()
}

func (h *serverShake) readHello() error {
	message, err := h.read(messageClientHello)
	if err != nil {
		return err
	}
	h.conn.in.greeted = true
	if h.hello, err = parseClientHello(message); err != nil {
		return err
	}
	hello := h.hello
	switch {
	case !hello.psk:
		return &LocalAlert{Alert: AlertHandshakeFailure, Reason: ErrNoKeyOffered}
	case !hello.hasModes || !hello.hasGroups || !hello.hasShares:
		return refuse(AlertMissingExtension, "the client hello lacks psk_key_exchange_modes, supported_groups or key_share")
	case !hello.dhe:
		return refuse(AlertHandshakeFailure, "the client wants no key exchange, without which old traffic could be read by whoever gets the key")
	}
	return nil
}

// choose settles suite and group. The suite is the client's choice among ours, since it knows
// what it computes fast. The group is the first of ours that the client knows; one for
// which there is a share is preferred, but not to one with ML-KEM.
func (h *serverShake) choose() error {
	at := slices.IndexFunc(h.hello.suites, func(s Suite) bool { return slices.Contains(h.suites, s) })
	if at < 0 {
		return refuse(AlertHandshakeFailure, "the client offers the cipher suites %v, here there are %v", h.hello.suites, h.suites)
	}
	h.suite = h.hello.suites[at].algorithms()
	var known, shared Group
	for _, group := range h.groups {
		if !slices.Contains(h.hello.groups, group) {
			continue
		}
		if known == 0 {
			known = group
		}
		if _, ok := h.hello.share(group); ok && shared == 0 {
			shared = group
		}
	}
	switch {
	case known == 0 && h.conn.config.RequirePQC:
		return &LocalAlert{Alert: AlertHandshakeFailure, Reason: ErrNotPQC}
	case known == 0:
		return refuse(AlertHandshakeFailure, "the client offers the groups %v, here there are %v", h.hello.groups, h.groups)
	case shared == 0 || (known.PostQuantum() && !shared.PostQuantum()):
		h.group = known
	default:
		h.group = shared
	}
	return nil
}

// authenticate finds the key of the identity, and has the client's binder show that it has
// the key. Who has no key here is compared with one that nobody has: a stranger learns from
// answer and time nothing of which identities there are.
func (h *serverShake) authenticate() error {
	nobodys := make([]byte, MinKey)
	if err := h.fill(nobodys); err != nil {
		return err
	}
	defer clear(nobodys)
	reason, key := ErrUnknownIdentity, []byte(nil)
	for i, raw := range h.hello.identities {
		identity := string(raw)
		if CheckIdentity(identity) != nil {
			continue
		}
		found, err := h.conn.config.Lookup(identity)
		if err == nil {
			err = checkKey(found)
		}
		if err == nil {
			h.identity, h.index, key = identity, i, found
			break
		}
		if h.identity == "" {
			h.identity, h.index, reason = identity, i, err
		}
	}
	known := key != nil
	if !known {
		key = nobodys
	}
	h.schedule = newSchedule(h.hash, key)
	if err := h.checkBinder(); err != nil {
		if !known {
			return &LocalAlert{Alert: AlertDecryptError, Reason: fmt.Errorf("identity %q: %w", h.identity, reason)}
		}
		return err
	}
	if !known { // The random key was guessed.
		return &LocalAlert{Alert: AlertDecryptError, Reason: reason}
	}
	return nil
}

func (h *serverShake) checkBinder() error {
	want, err := h.binder(h.hello)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(h.hello.binders[h.index], want) != 1 {
		return &LocalAlert{Alert: AlertDecryptError, Reason: fmt.Errorf("identity %q: %w", h.identity, ErrWrongKey)}
	}
	return nil
}

// askAgain asks for a hello with a share of the chosen group, and reads that.
func (h *serverShake) askAgain() error {
	first := h.hello
	request := &serverHello{random: retryRandom, sessionID: first.sessionID, suite: h.suite.suite, share: keyShare{group: h.group}}
	raw, err := request.marshal()
	if err != nil {
		return err
	}
	h.retried(first.raw, raw)
	if err := h.addRecords(raw); err != nil {
		return err
	}
	h.compatible()
	if err := h.send(); err != nil {
		return err
	}
	h.conn.state.Retried = true
	if first.earlyData {
		h.conn.in.skip = maxEarly
	}
	if err := h.readHello(); err != nil {
		return err
	}
	second := h.hello
	_, ok := second.share(h.group)
	switch {
	case second.random != first.random || !bytes.Equal(second.sessionID, first.sessionID) ||
		!slices.Contains(second.suites, h.suite.suite) || !slices.Contains(second.groups, h.group) || second.earlyData || second.cookie != nil:
		return refuse(AlertIllegalParameter, "the client's second hello differs from its first in what must be the same")
	case !ok || len(second.shares) != 1:
		return refuse(AlertIllegalParameter, "the client was asked for one share, of %v, and sent %d", h.group, len(second.shares))
	}
	h.index = slices.IndexFunc(second.identities, func(id []byte) bool { return string(id) == h.identity })
	if h.index < 0 {
		return refuse(AlertIllegalParameter, "the client's second hello is of another identity")
	}
	h.conn.in.skip = 0
	return h.checkBinder()
}

// compatible appends a change_cipher_spec after the server's first message, for a client
// that plays the game (RFC 8446, appendix D.4).
func (h *serverShake) compatible() {
	if len(h.hello.sessionID) > 0 && !h.conn.state.Retried {
		h.addChangeCipherSpec()
	}
}

// answer agrees on a secret and sends all of the server's flight.
func (h *serverShake) answer() error {
	h.transcript.Write(h.hello.raw)
	theirs, _ := h.hello.share(h.group)
	ours, agreed, err := answer(theirs, h.random)
	if err != nil {
		return refuse(AlertIllegalParameter, "the client's key share is no good: %w", err)
	}
	server := &serverHello{sessionID: h.hello.sessionID, suite: h.suite.suite, share: ours, psk: true, identity: uint16(h.index)}
	if err := h.fill(server.random[:]); err != nil {
		return err
	}
	raw, err := server.marshal()
	if err != nil {
		return err
	}
	if err := h.add(raw); err != nil {
		return err
	}
	h.compatible()
	h.schedule.advance(agreed)
	clear(agreed)
	return nil
}

// finish sends the rest of the flight, under keys, and reads the client's.
func (h *serverShake) finish() error {
	c := h.conn
	shake := h.secrets("c hs traffic", "s hs traffic")
	serverSecret, clientSecret := bytes.Clone(shake.server), bytes.Clone(shake.client)
	defer func() { clear(serverSecret); clear(clientSecret) }()
	if err := c.useInKeys(h.suite, shake.client); err != nil {
		return err
	}
	c.in.clear = true
	if h.hello.earlyData {
		c.in.skip = maxEarly
	}
	if err := c.out.use(h.suite, shake.server); err != nil {
		return err
	}
	if err := h.add(encryptedExtensions); err != nil {
		return err
	}
	if err := h.addFinished(serverSecret); err != nil {
		return err
	}
	if err := h.send(); err != nil {
		return err
	}
	h.schedule.advance(nil)
	traffic := h.secrets("c ap traffic", "s ap traffic")
	if err := h.readFinished(clientSecret); err != nil {
		return err
	}
	if err := c.useInKeys(h.suite, traffic.client); err != nil {
		return err
	}
	c.state.Identity, c.state.Suite, c.state.Group = h.identity, h.suite.suite, h.group
	return c.out.use(h.suite, traffic.server)
}
