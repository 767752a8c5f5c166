package psktls

import (
	"golang.org/x/crypto/cryptobyte"
)

// retryRandom in the place of its random says that a ServerHello is a HelloRetryRequest
// (RFC 8446, section 4.1.3).
var retryRandom = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

// serverHello is a ServerHello or a HelloRetryRequest (RFC 8446, sections 4.1.3 and 4.1.4).
type serverHello struct {
	raw       []byte
	random    [32]byte
	sessionID []byte
	suite     Suite
	version   uint16 // of supported_versions, 0 where it is not there

	share    keyShare // of a ServerHello; of a HelloRetryRequest the group alone
	hasShare bool
	identity uint16
	psk      bool
	cookie   []byte

	unasked    uint16 // an extension that no hello of ours has, if hasUnasked
	hasUnasked bool
}

func (h *serverHello) retry() bool { return h.random == retryRandom }

func (h *serverHello) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(messageServerHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(legacyVersion)
		b.AddBytes(h.random[:])
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.sessionID) })
		b.AddUint16(uint16(h.suite))
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			extension(b, extSupportedVersions, func(b *cryptobyte.Builder) { b.AddUint16(versionTLS13) })
			extension(b, extKeyShare, func(b *cryptobyte.Builder) {
				b.AddUint16(uint16(h.share.group))
				if !h.retry() {
					b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.share.data) })
				}
			})
			if h.psk {
				extension(b, extPreSharedKey, func(b *cryptobyte.Builder) { b.AddUint16(h.identity) })
			}
		})
	})
	return b.Bytes()
}

// parseServerHello reads a message with its header. It refuses what is wrong whatever the
// client has sent; the rest is for the client to compare.
func parseServerHello(raw []byte) (*serverHello, error) {
	h := &serverHello{raw: raw}
	s := cryptobyte.String(raw[4:])
	var legacy, suite uint16
	var compression uint8
	var session, extensions cryptobyte.String
	if !s.ReadUint16(&legacy) || !s.CopyBytes(h.random[:]) || !s.ReadUint8LengthPrefixed(&session) ||
		len(session) > 32 || !s.ReadUint16(&suite) || !s.ReadUint8(&compression) {
		return nil, refuse(AlertDecodeError, "the server hello is damaged")
	}
	h.sessionID, h.suite = session, Suite(suite)
	// A hello of TLS 1.2 and before may end here.
	if !s.Empty() && (!s.ReadUint16LengthPrefixed(&extensions) || !s.Empty()) {
		return nil, refuse(AlertDecodeError, "the server hello's extensions are damaged")
	}
	if err := h.readExtensions(extensions); err != nil {
		return nil, err
	}
	if h.version != versionTLS13 || legacy != legacyVersion {
		return nil, refuse(AlertProtocolVersion, "the server does not speak TLS 1.3")
	}
	if h.hasUnasked {
		return nil, refuse(AlertUnsupportedExt, "the server hello has extension %d, which was not asked for", h.unasked)
	}
	if compression != 0 {
		return nil, refuse(AlertIllegalParameter, "the server chose compression, which TLS 1.3 forbids")
	}
	return h, nil
}

func (h *serverHello) readExtensions(extensions cryptobyte.String) error {
	var seen [4]bool
	for !extensions.Empty() {
		var number uint16
		var body cryptobyte.String
		if !extensions.ReadUint16(&number) || !extensions.ReadUint16LengthPrefixed(&body) {
			return refuse(AlertDecodeError, "the server hello's extensions are damaged")
		}
		var ok bool
		var at int
		switch {
		case number == extSupportedVersions:
			at, ok = 0, body.ReadUint16(&h.version) && body.Empty()
		case number == extKeyShare:
			at, ok = 1, h.readShare(body)
		case number == extPreSharedKey && !h.retry():
			at, ok = 2, body.ReadUint16(&h.identity) && body.Empty()
			h.psk = true
		case number == extCookie && h.retry():
			var cookie cryptobyte.String
			at, ok = 3, body.ReadUint16LengthPrefixed(&cookie) && len(cookie) > 0 && body.Empty()
			h.cookie = cookie
		case number == extSupportedGroups, number == extKeyExchangeModes, number == extPreSharedKey, number == extCookie:
			// Sent in the hello, but not to be answered here (section 4.2).
			return refuse(AlertIllegalParameter, "the server hello has extension %d, which does not belong there", number)
		default:
			// Before TLS 1.3 other extensions were answered in this message, and which
			// version it is may stand further on.
			h.unasked, h.hasUnasked = number, true
			continue
		}
		if !ok {
			return refuse(AlertDecodeError, "extension %d of the server hello is damaged", number)
		}
		if seen[at] {
			return refuse(AlertIllegalParameter, "extension %d is in the server hello twice", number)
		}
		seen[at] = true
	}
	return nil
}

func (h *serverHello) readShare(body cryptobyte.String) bool {
	h.hasShare = true
	var group uint16
	if !body.ReadUint16(&group) {
		return false
	}
	h.share.group = Group(group)
	if h.retry() {
		return body.Empty()
	}
	var data cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&data) || data.Empty() || !body.Empty() {
		return false
	}
	h.share.data = data
	return true
}

// encryptedExtensions is that message with no extension in it: nothing that was asked for
// is answered there.
var encryptedExtensions = []byte{messageEncryptedExtensions, 0, 0, 2, 0, 0}

// checkEncryptedExtensions reads EncryptedExtensions (RFC 8446, section 4.3.1). Of what the
// hello has, only supported_groups may be answered there.
func checkEncryptedExtensions(raw []byte) error {
	s := cryptobyte.String(raw[4:])
	var extensions cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return refuse(AlertDecodeError, "the server's encrypted extensions are damaged")
	}
	groups := false
	for !extensions.Empty() {
		var number uint16
		var body cryptobyte.String
		if !extensions.ReadUint16(&number) || !extensions.ReadUint16LengthPrefixed(&body) {
			return refuse(AlertDecodeError, "the server's encrypted extensions are damaged")
		}
		switch number {
		case extSupportedGroups:
			if groups {
				return refuse(AlertIllegalParameter, "extension %d is in the server's encrypted extensions twice", number)
			}
			groups = true
		case extSupportedVersions, extKeyShare, extPreSharedKey, extKeyExchangeModes, extCookie:
			return refuse(AlertIllegalParameter, "the server's encrypted extensions have extension %d, which does not belong there", number)
		default:
			return refuse(AlertUnsupportedExt, "the server's encrypted extensions have extension %d, which was not asked for", number)
		}
	}
	return nil
}

// messageOf frames a handshake message.
func messageOf(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}
