package psktls

import (
	"errors"
	"fmt"
	"io"
)

const (
	// maxMessage is the longest handshake message that is read during the handshake, without
	// its header. A hello of ours is 1.5 KB long.
	maxMessage = 16 << 10
	// maxQuiet is how many records in a row may bring nothing: padding, dropped tickets,
	// updates of keys.
	maxQuiet = 32
	// maxEarly is how many bytes of early data are passed over, from a client that sends
	// some before it knows that we take none (RFC 8446, section 4.2.10).
	maxEarly = 16 << 10
	// maxTicket is how long a NewSessionTicket can be (RFC 8446, section 4.6.1).
	maxTicket = 1 << 17
)

// readRecord reads one record and opens it. data is a part of in.buf, valid until the next
// call. Where net's deadline passes the call may be repeated.
func (c *Conn) readRecord() (kind byte, data []byte, err error) {
	for {
		record, err := c.nextRecord()
		if err != nil {
			return 0, nil, err
		}
		kind, data, again, err := c.openRecord(record)
		if err != nil || !again {
			return kind, data, err
		}
		if c.in.quiet++; c.in.quiet > maxQuiet {
			return 0, nil, refuse(AlertUnexpectedMessage, "more than %d records in a row bring nothing", maxQuiet)
		}
	}
}

// nextRecord returns one record as it came, with its header. The buffer has room for one as
// long as it may be, however long the peer says that one is.
func (c *Conn) nextRecord() ([]byte, error) {
	in := &c.in
	if in.buf == nil {
		in.buf = make([]byte, headerLen+maxCiphertext)
	}
	if in.begin == in.end {
		in.begin, in.end = 0, 0
	}
	for {
		have := in.buf[in.begin:in.end]
		if len(have) >= headerLen {
			length := int(have[3])<<8 | int(have[4])
			if err := c.checkHeader(have[0], have[1], length); err != nil {
				return nil, err
			}
			if len(have) >= headerLen+length {
				in.begin += headerLen + length
				return have[:headerLen+length], nil
			}
		}
		if in.begin > 0 {
			in.begin, in.end = 0, copy(in.buf, have)
		}
		n, err := c.net.Read(in.buf[in.end:])
		in.end += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// checkHeader refuses what is no record, by its first bytes: before all of what a stranger
// calls a record has been waited for.
func (c *Conn) checkHeader(kind, major byte, length int) error {
	if major != 3 || kind < recordChangeCipherSpec || kind > recordApplicationData {
		if c.in.aead == nil {
			return &LocalAlert{Alert: AlertUnexpectedMessage, Reason: c.notTLS()}
		}
		return refuse(AlertUnexpectedMessage, "a record is of no kind that TLS has: %d", kind)
	}
	limit := maxPlaintext
	if kind == recordApplicationData {
		limit = maxCiphertext
	}
	if length > limit {
		return &LocalAlert{Alert: AlertRecordOverflow, Reason: errTooLong}
	}
	return nil
}

// notTLS says what begins with these bytes.
func (c *Conn) notTLS() error {
	first := c.in.buf[c.in.begin : c.in.begin+headerLen]
	if first[0] == 0xfe && first[1] == 0 && first[2] == 0 && first[3] == 0xff {
		return fmt.Errorf("%w: the other end speaks in clear text: it needs transport = tls", ErrNotTLS)
	}
	return fmt.Errorf("%w: it begins with %q", ErrNotTLS, first)
}

// openRecord opens a record. again is set for one that is passed over.
func (c *Conn) openRecord(record []byte) (kind byte, data []byte, again bool, err error) {
	kind, data = record[0], record[headerLen:]
	sealed := c.in.aead != nil
	switch {
	case kind == recordChangeCipherSpec && c.in.greeted && !c.hand.done.Load():
		// Sent for the sake of old middleboxes (RFC 8446, section 5 and appendix D.4).
		if len(data) != 1 || data[0] != 1 {
			return 0, nil, false, refuse(AlertUnexpectedMessage, "a change_cipher_spec is not as TLS 1.3 has it")
		}
		return 0, nil, true, nil
	case kind == recordApplicationData && !sealed && c.in.skip > 0:
		// Early data between two hellos.
		c.in.skip -= len(record)
		return 0, nil, true, nil
	case kind == recordAlert && sealed && c.in.clear && len(data) == 2:
		return kind, data, false, nil
	case !sealed && kind != recordApplicationData:
		return kind, data, false, nil
	case !sealed || kind != recordApplicationData:
		return 0, nil, false, refuse(AlertUnexpectedMessage, "a record of kind %d comes where it does not belong", kind)
	}
	kind, data, err = c.in.open(record)
	switch {
	case errors.Is(err, errBadRecord) && c.in.skip > 0:
		// Early data, under keys that this end does not make.
		c.in.skip -= len(record)
		return 0, nil, true, nil
	case errors.Is(err, errBadRecord):
		return 0, nil, false, &LocalAlert{Alert: AlertBadRecordMAC, Reason: err}
	case errors.Is(err, errTooLong):
		return 0, nil, false, &LocalAlert{Alert: AlertRecordOverflow, Reason: err}
	case err != nil:
		return 0, nil, false, &LocalAlert{Alert: AlertUnexpectedMessage, Reason: err}
	}
	c.in.skip, c.in.clear = 0, false
	return kind, data, false, nil
}

// readMessage reads one handshake message of the handshake, with its header. The message is
// the caller's.
func (c *Conn) readMessage() ([]byte, error) {
	for {
		if have := c.in.message; len(have) >= 4 {
			length := int(have[1])<<16 | int(have[2])<<8 | int(have[3])
			if length > maxMessage {
				return nil, refuse(AlertIllegalParameter, "a handshake message says that it is %d bytes long; the longest that is taken is %d", length, maxMessage)
			}
			if len(have) >= 4+length {
				message := append([]byte(nil), have[:4+length]...)
				c.in.message = have[4+length:]
				return message, nil
			}
		}
		kind, data, err := c.readRecord()
		if err != nil {
			return nil, err
		}
		switch {
		case kind == recordAlert:
			if err := alertError(data, c.hand.done.Load()); err != nil {
				return nil, err
			}
			if c.in.quiet++; c.in.quiet > maxQuiet { // user_canceled, for as long as the peer likes
				return nil, refuse(AlertUnexpectedMessage, "more than %d records in a row bring nothing", maxQuiet)
			}
		case kind != recordHandshake:
			return nil, refuse(AlertUnexpectedMessage, "a record of kind %d comes within the handshake", kind)
		case len(data) == 0:
			return nil, refuse(AlertUnexpectedMessage, "a handshake record is empty")
		default:
			c.in.message = append(c.in.message, data...)
		}
	}
}

// useInKeys has the peer's next records opened with the keys of secret. No message may
// reach over such a change (RFC 8446, section 5.1).
func (c *Conn) useInKeys(suite *algorithms, secret []byte) error {
	if len(c.in.message) > 0 {
		return refuse(AlertUnexpectedMessage, "a handshake message begins before the keys change that it needs")
	}
	return c.in.use(suite, secret)
}

// alertError is what an alert of the peer means to whoever reads: io.EOF for close_notify,
// nil for one that is followed by it. During the handshake a close is no end of anything.
func alertError(data []byte, done bool) error {
	if len(data) != 2 {
		return refuse(AlertDecodeError, "an alert is %d bytes long, not 2", len(data))
	}
	switch alert := Alert(data[1]); {
	case alert == AlertUserCanceled:
		return nil
	case alert == AlertCloseNotify && done:
		return io.EOF
	default: // In TLS 1.3 every other is fatal, whatever its level (section 6).
		return &PeerAlert{alert}
	}
}

// readApplication reads one record after the handshake. Where it brings application data
// in.plain is set.
func (c *Conn) readApplication() error {
	kind, data, err := c.readRecord()
	if err != nil {
		return err
	}
	switch kind {
	case recordApplicationData:
		if c.in.after.within() {
			return refuse(AlertUnexpectedMessage, "application data comes within a handshake message")
		}
		if len(data) > 0 {
			c.in.plain, c.in.quiet = data, 0
			return nil
		}
	case recordAlert:
		if err := alertError(data, true); err != nil {
			return err
		}
	case recordHandshake:
		if len(data) == 0 {
			return refuse(AlertUnexpectedMessage, "a handshake record is empty")
		}
		if err := c.afterwards(data); err != nil {
			return err
		}
	default:
		return refuse(AlertUnexpectedMessage, "a record of kind %d comes after the handshake", kind)
	}
	if c.in.quiet++; c.in.quiet > maxQuiet {
		return refuse(AlertUnexpectedMessage, "more than %d records in a row bring nothing", maxQuiet)
	}
	return nil
}

// afterHandshake is how far a message after the handshake has been read: it may come in
// parts, and is not kept.
type afterHandshake struct {
	header [5]byte // of the message, and a KeyUpdate's byte
	have   int
	skip   int // bytes of a ticket that are still to come
}

func (a *afterHandshake) within() bool { return a.have > 0 || a.skip > 0 }

// afterwards reads messages after the handshake (RFC 8446, section 4.6): tickets, which are
// not used, and updates of keys. There is nothing else that this end would take.
func (c *Conn) afterwards(data []byte) error {
	a := &c.in.after
	for len(data) > 0 {
		if a.skip > 0 {
			n := min(a.skip, len(data))
			a.skip, data = a.skip-n, data[n:]
			continue
		}
		a.header[a.have] = data[0]
		a.have++
		data = data[1:]
		if a.have < 4 {
			continue
		}
		length := int(a.header[1])<<16 | int(a.header[2])<<8 | int(a.header[3])
		switch kind := a.header[0]; {
		case kind == messageNewSessionTicket && c.client:
			if length > maxTicket {
				return refuse(AlertDecodeError, "a ticket says that it is %d bytes long, longer than one can be", length)
			}
			a.have, a.skip = 0, length
		case kind != messageKeyUpdate:
			return refuse(AlertUnexpectedMessage, "a handshake message of kind %d comes after the handshake", kind)
		case length != 1:
			return refuse(AlertDecodeError, "a key_update is %d bytes long, not 1", length)
		case a.have == 5:
			a.have = 0
			if err := c.keyUpdate(a.header[4], len(data)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyUpdate follows the peer to its next keys (RFC 8446, section 4.6.3). rest is how much
// follows in the record, which is to be nothing.
func (c *Conn) keyUpdate(request byte, rest int) error {
	if request > 1 {
		return refuse(AlertIllegalParameter, "a key_update asks for %d, which is neither 0 nor 1", request)
	}
	if rest > 0 {
		return refuse(AlertUnexpectedMessage, "something follows a key_update under the old keys")
	}
	if err := c.in.update(); err != nil {
		return err
	}
	if request == 1 {
		c.owed.Store(true)
	}
	return nil
}
