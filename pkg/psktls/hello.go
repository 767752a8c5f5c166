package psktls

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Kinds of handshake messages (RFC 8446, section 4), those that are sent or told apart.
const (
	messageClientHello         = 1
	messageServerHello         = 2
	messageNewSessionTicket    = 4
	messageEncryptedExtensions = 8
	messageCertificate         = 11
	messageCertificateRequest  = 13
	messageFinished            = 20
	messageKeyUpdate           = 24
	messageHash                = 254 // stands for the first hello where the hash goes on (section 4.4.1)
)

// Extensions (RFC 8446, section 4.2).
const (
	extSupportedGroups   = 10
	extPreSharedKey      = 41
	extEarlyData         = 42
	extSupportedVersions = 43
	extCookie            = 44
	extKeyExchangeModes  = 45
	extKeyShare          = 51
)

const (
	legacyVersion = 0x0303 // what every TLS 1.3 message says of its version (section 4.1.2)
	versionTLS13  = 0x0304
	modeDHE       = 1 // psk_dhe_ke (section 4.2.9)

	// maxIdentities is how many identities of a hello are looked at. Those who have one key
	// offer one; beside it there may be a ticket of some earlier server.
	maxIdentities = 8
	maxIdentity   = 255
)

// clientHello is what is in a ClientHello (RFC 8446, section 4.1.2) for one who has a
// pre-shared key. Slices of one that was read point into raw. Suites, groups and shares
// that this package does not have are left out.
type clientHello struct {
	raw       []byte
	random    [32]byte
	sessionID []byte
	suites    []Suite
	groups    []Group
	shares    []keyShare
	cookie    []byte

	tls13, dhe, earlyData               bool
	hasGroups, hasShares, hasModes, psk bool

	identities [][]byte
	binders    [][]byte
	truncated  int // where the binders begin in raw: what they are made over ends there
}

// marshal writes the message with zeros for its binders, binderLen long, and sets raw and
// truncated. There is one identity.
func (h *clientHello) marshal(binderLen int) error {
	var b cryptobyte.Builder
	b.AddUint8(messageClientHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(legacyVersion)
		b.AddBytes(h.random[:])
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.sessionID) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, suite := range h.suites {
				b.AddUint16(uint16(suite))
			}
		})
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) }) // no compression
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { h.extensions(b, binderLen) })
	})
	raw, err := b.Bytes()
	if err != nil {
		return err
	}
	h.raw, h.truncated = raw, len(raw)-(2+1+binderLen)
	h.binders = [][]byte{raw[len(raw)-binderLen:]}
	return nil
}

func (h *clientHello) extensions(b *cryptobyte.Builder, binderLen int) {
	extension(b, extSupportedVersions, func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(versionTLS13) })
	})
	extension(b, extSupportedGroups, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, group := range h.groups {
				b.AddUint16(uint16(group))
			}
		})
	})
	extension(b, extKeyExchangeModes, func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(modeDHE) })
	})
	if h.cookie != nil {
		extension(b, extCookie, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.cookie) })
		})
	}
	extension(b, extKeyShare, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, share := range h.shares {
				b.AddUint16(uint16(share.group))
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(share.data) })
			}
		})
	})
	// The binders are over all that stands before them: this extension is the last
	// (section 4.2.11).
	extension(b, extPreSharedKey, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.identities[0]) })
			b.AddUint32(0) // the age, 0 for a key that no server gave
		})
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(make([]byte, binderLen)) })
		})
	})
}

func extension(b *cryptobyte.Builder, number uint16, body func(*cryptobyte.Builder)) {
	b.AddUint16(number)
	b.AddUint16LengthPrefixed(body)
}

// parseClientHello reads a message with its header.
func parseClientHello(raw []byte) (*clientHello, error) {
	h := &clientHello{raw: raw}
	s := cryptobyte.String(raw[4:])
	var legacy uint16
	var session, suites, compression, extensions cryptobyte.String
	if !s.ReadUint16(&legacy) || !s.CopyBytes(h.random[:]) || !s.ReadUint8LengthPrefixed(&session) ||
		len(session) > 32 || !s.ReadUint16LengthPrefixed(&suites) || len(suites) < 2 ||
		!s.ReadUint8LengthPrefixed(&compression) || len(compression) == 0 {
		return nil, refuse(AlertDecodeError, "the client hello is damaged")
	}
	h.sessionID = session
	for !suites.Empty() {
		var suite uint16
		if !suites.ReadUint16(&suite) {
			return nil, refuse(AlertDecodeError, "the client hello's cipher suites are damaged")
		}
		if s := Suite(suite); s.algorithms() != nil && !slices.Contains(h.suites, s) {
			h.suites = append(h.suites, s)
		}
	}
	// A hello of TLS 1.2 and before may end here.
	if !s.Empty() && (!s.ReadUint16LengthPrefixed(&extensions) || !s.Empty()) {
		return nil, refuse(AlertDecodeError, "the client hello's extensions are damaged")
	}
	if err := h.readExtensions(extensions); err != nil {
		return nil, err
	}
	if !h.tls13 {
		return nil, refuse(AlertProtocolVersion, "the client does not offer TLS 1.3")
	}
	if len(compression) != 1 || compression[0] != 0 {
		return nil, refuse(AlertIllegalParameter, "the client offers compression, which TLS 1.3 forbids")
	}
	return h, nil
}

func (h *clientHello) readExtensions(extensions cryptobyte.String) error {
	seen := make([]uint16, 0, 16)
	for !extensions.Empty() {
		var number uint16
		var body cryptobyte.String
		if !extensions.ReadUint16(&number) || !extensions.ReadUint16LengthPrefixed(&body) {
			return refuse(AlertDecodeError, "the client hello's extensions are damaged")
		}
		if h.psk {
			return refuse(AlertIllegalParameter, "an extension follows pre_shared_key, which must be the last")
		}
		if slices.Contains(seen, number) {
			return refuse(AlertIllegalParameter, "extension %d is in the client hello twice", number)
		}
		if len(seen) == 128 {
			return refuse(AlertIllegalParameter, "the client hello has more than 128 extensions")
		}
		seen = append(seen, number)
		ok := true
		switch number {
		case extSupportedVersions:
			ok = h.readVersions(body)
		case extSupportedGroups:
			ok = h.readGroups(body)
		case extKeyShare:
			ok = h.readShares(body)
		case extKeyExchangeModes:
			ok = h.readModes(body)
		case extCookie:
			var cookie cryptobyte.String
			ok = body.ReadUint16LengthPrefixed(&cookie) && len(cookie) > 0 && body.Empty()
			h.cookie = cookie
		case extEarlyData:
			ok = body.Empty()
			h.earlyData = true
		case extPreSharedKey:
			ok = h.readPreSharedKey(body)
		}
		if !ok {
			return refuse(AlertDecodeError, "extension %d of the client hello is damaged", number)
		}
	}
	return nil
}

func (h *clientHello) readVersions(body cryptobyte.String) bool {
	var list cryptobyte.String
	if !body.ReadUint8LengthPrefixed(&list) || !body.Empty() || list.Empty() {
		return false
	}
	for !list.Empty() {
		var version uint16
		if !list.ReadUint16(&version) {
			return false
		}
		h.tls13 = h.tls13 || version == versionTLS13
	}
	return true
}

func (h *clientHello) readGroups(body cryptobyte.String) bool {
	h.hasGroups = true
	var list cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) || !body.Empty() || list.Empty() {
		return false
	}
	for !list.Empty() {
		var group uint16
		if !list.ReadUint16(&group) {
			return false
		}
		if g := Group(group); g.exchange() != nil && !slices.Contains(h.groups, g) {
			h.groups = append(h.groups, g)
		}
	}
	return true
}

func (h *clientHello) readShares(body cryptobyte.String) bool {
	h.hasShares = true
	var list cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) || !body.Empty() {
		return false
	}
	for !list.Empty() {
		var group uint16
		var share cryptobyte.String
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&share) || share.Empty() {
			return false
		}
		g := Group(group)
		if g.exchange() != nil && !slices.ContainsFunc(h.shares, func(s keyShare) bool { return s.group == g }) {
			h.shares = append(h.shares, keyShare{g, share})
		}
	}
	return true
}

func (h *clientHello) readModes(body cryptobyte.String) bool {
	h.hasModes = true
	var list cryptobyte.String
	if !body.ReadUint8LengthPrefixed(&list) || !body.Empty() || list.Empty() {
		return false
	}
	h.dhe = slices.Contains(list, modeDHE)
	return true
}

// readPreSharedKey reads OfferedPsks (RFC 8446, section 4.2.11): as many binders as
// identities.
func (h *clientHello) readPreSharedKey(body cryptobyte.String) bool {
	h.psk = true
	var identities, binders cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&identities) || identities.Empty() {
		return false
	}
	h.truncated = len(h.raw) - len(body)
	if !body.ReadUint16LengthPrefixed(&binders) || !body.Empty() {
		return false
	}
	count := 0
	for ; !identities.Empty(); count++ {
		var identity cryptobyte.String
		var age uint32
		if !identities.ReadUint16LengthPrefixed(&identity) || identity.Empty() || !identities.ReadUint32(&age) {
			return false
		}
		if count < maxIdentities {
			h.identities = append(h.identities, identity)
		}
	}
	for ; !binders.Empty(); count-- {
		var binder cryptobyte.String
		if !binders.ReadUint8LengthPrefixed(&binder) || len(binder) < 32 {
			return false
		}
		if len(h.binders) < len(h.identities) {
			h.binders = append(h.binders, binder)
		}
	}
	return count == 0
}

// share returns the client's share of a group, if it sent one.
func (h *clientHello) share(group Group) (keyShare, bool) {
	for _, share := range h.shares {
		if share.group == group {
			return share, true
		}
	}
	return keyShare{}, false
}
