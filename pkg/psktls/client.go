package psktls

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"slices"
)

var errNoClone = errors.New("the hash can't be cloned")

// clientShake is the client's side of a handshake.
type clientShake struct {
	*handshake
	hello  *clientHello
	pairs  []*keyPair
	server *serverHello
	pair   *keyPair // the one that the server chose
}

// shakeAsClient sends a hello, a second one if the server asks for it, and proves the key
// (RFC 8446, figure 1, without certificates). Its caller holds the locks.
func (c *Conn) shakeAsClient(choices *choices) error {
	if err := CheckIdentity(c.config.Identity); err != nil {
		return fmt.Errorf("tls: tls_psk_identity: %w", err)
	}
	if err := checkKey(c.config.Key); err != nil {
		return fmt.Errorf("tls: the key of %s: %w", c.config.Identity, err)
	}
	h := &clientShake{handshake: c.newHandshake(choices)}
	defer h.done()
	h.schedule = newSchedule(choices.hash, c.config.Key)
	c.in.greeted = true
	if err := h.greet(); err != nil {
		return err
	}
	if err := h.readServerHello(); err != nil {
		return silent(err)
	}
	if h.server.retry() {
		if err := h.again(); err != nil {
			return err
		}
	}
	if err := h.agree(); err != nil {
		return err
	}
	return h.finish()
}

// silent says of a server that ended the connection instead of answering what may be the
// matter.
func silent(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("tls: the other end closed the connection instead of answering: does it listen with TLS there? Audit 4.2's server ends so where it does not know the identity (%w)", err)
	}
	return err
}

// greet sends the first hello. It has a share for the group that is liked best, and where
// that is a hybrid one for its curve alone, with the same key: most servers that don't know
// the hybrid need no second hello then.
func (h *clientShake) greet() error {
	h.hello = &clientHello{suites: h.suites, groups: h.groups, sessionID: make([]byte, 32),
		identities: [][]byte{[]byte(h.conn.config.Identity)}}
	if err := h.fill(h.hello.random[:]); err != nil {
		return err
	}
	if err := h.fill(h.hello.sessionID); err != nil {
		return err
	}
	if err := h.offer(h.groups[0], nil); err != nil {
		return err
	}
	if first := h.groups[0].exchange(); first.kem != nil && first.curve != nil {
		for _, group := range h.groups[1:] {
			if x := group.exchange(); x.kem == nil && x.curve == first.curve {
				if err := h.offer(group, h.pairs[0].ec); err != nil {
					return err
				}
			}
		}
	}
	if err := h.addHello(); err != nil {
		return err
	}
	h.flight[2] = 1 // the first record of a connection may be of version 3.1, and some middleboxes insist (section 5.1)
	return h.send()
}

// offer makes a key pair and puts its share into the hello.
func (h *clientShake) offer(group Group, ec *ecdh.PrivateKey) error {
	pair, err := newKeyPair(group, h.random, ec)
	if err != nil {
		return err
	}
	h.pairs = append(h.pairs, pair)
	h.hello.shares = append(h.hello.shares, pair.share)
	return nil
}

// addHello binds the hello and appends it to the flight.
func (h *clientShake) addHello() error {
	if err := h.hello.marshal(h.hash().Size()); err != nil {
		return err
	}
	binder, err := h.binder(h.hello)
	if err != nil {
		return err
	}
	copy(h.hello.binders[0], binder)
	return h.add(h.hello.raw)
}

// readServerHello reads the answer and compares it with what was offered.
func (h *clientShake) readServerHello() error {
	message, err := h.read(messageServerHello)
	if err != nil {
		return err
	}
	server, err := parseServerHello(message)
	if err != nil {
		return err
	}
	if !bytes.Equal(server.sessionID, h.hello.sessionID) {
		return refuse(AlertIllegalParameter, "the server does not repeat the session id")
	}
	if !slices.Contains(h.suites, server.suite) {
		return refuse(AlertIllegalParameter, "the server chose the cipher suite %v, which was not offered", server.suite)
	}
	if h.suite != nil && h.suite.suite != server.suite {
		return refuse(AlertIllegalParameter, "the server chose %v, and then %v", h.suite.suite, server.suite)
	}
	h.suite, h.server = server.suite.algorithms(), server
	return nil
}

// again answers a HelloRetryRequest (RFC 8446, sections 4.1.2 and 4.1.4): the same hello,
// with a share for the group that the server asks for, and its cookie.
func (h *clientShake) again() error {
	request := h.server
	if !request.hasShare && request.cookie == nil {
		return refuse(AlertIllegalParameter, "the server asks for another hello without saying what is to change")
	}
	if request.hasShare {
		group := request.share.group
		if !slices.Contains(h.groups, group) {
			return refuse(AlertIllegalParameter, "the server asks for the group %v, which was not offered", group)
		}
		if slices.ContainsFunc(h.pairs, func(p *keyPair) bool { return p.share.group == group }) {
			return refuse(AlertIllegalParameter, "the server asks for a share of %v, which it has already", group)
		}
		h.pairs, h.hello.shares = nil, nil
		if err := h.offer(group, nil); err != nil {
			return err
		}
	}
	h.hello.cookie = request.cookie
	h.retried(h.hello.raw, request.raw)
	h.addChangeCipherSpec()
	if err := h.addHello(); err != nil {
		return err
	}
	if err := h.send(); err != nil {
		return err
	}
	h.conn.state.Retried = true
	if err := h.readServerHello(); err != nil {
		return silent(err)
	}
	if h.server.retry() {
		return refuse(AlertUnexpectedMessage, "the server asks for a third hello")
	}
	return nil
}

// agree takes what the server chose, and goes to the keys of the handshake.
func (h *clientShake) agree() error {
	if !h.server.psk {
		return refuse(AlertMissingExtension, "the server did not take the pre-shared key: is a key set there for TLS 1.3?")
	}
	if h.server.identity != 0 {
		return refuse(AlertIllegalParameter, "the server chose identity %d of one", h.server.identity)
	}
	if !h.server.hasShare {
		return refuse(AlertMissingExtension, "the server wants no key exchange, without which old traffic could be read by whoever gets the key")
	}
	at := slices.IndexFunc(h.pairs, func(p *keyPair) bool { return p.share.group == h.server.share.group })
	if at < 0 {
		return refuse(AlertIllegalParameter, "the server chose the group %v, for which there was no share", h.server.share.group)
	}
	h.pair = h.pairs[at]
	agreed, err := h.pair.secret(h.server.share.data)
	if err != nil {
		return refuse(AlertIllegalParameter, "the server's key share is no good: %w", err)
	}
	h.transcript.Write(h.server.raw)
	h.schedule.advance(agreed)
	clear(agreed)
	return nil
}

// finish reads the rest of the server's flight and sends the client's.
func (h *clientShake) finish() error {
	c := h.conn
	shake := h.secrets("c hs traffic", "s hs traffic")
	serverSecret := bytes.Clone(shake.server)
	defer func() { clear(serverSecret); clear(shake.client) }()
	if err := c.useInKeys(h.suite, shake.server); err != nil {
		return err
	}
	// From here on the server expects records under keys, alerts too.
	clientSecret := bytes.Clone(shake.client)
	if err := c.out.use(h.suite, clientSecret); err != nil {
		return err
	}
	extensions, err := h.read(messageEncryptedExtensions)
	if err != nil {
		return err
	}
	if err := checkEncryptedExtensions(extensions); err != nil {
		return err
	}
	h.transcript.Write(extensions)
	if err := h.readFinished(serverSecret); err != nil {
		return err
	}
	h.schedule.advance(nil)
	traffic := h.secrets("c ap traffic", "s ap traffic")
	if err := c.useInKeys(h.suite, traffic.server); err != nil {
		return err
	}
	if !c.state.Retried {
		h.addChangeCipherSpec()
	}
	if err := h.addFinished(shake.client); err != nil {
		return err
	}
	if err := h.send(); err != nil {
		return err
	}
	c.state.Identity, c.state.Suite, c.state.Group = c.config.Identity, h.suite.suite, h.pair.share.group
	return c.out.use(h.suite, traffic.client)
}
