package psktls

import (
	"crypto/subtle"
	"hash"
)

// handshake is what both ends keep until they are done (RFC 8446, section 4). It is cleared
// then.
type handshake struct {
	*choices
	conn       *Conn
	suite      *algorithms
	schedule   *schedule
	transcript hash.Hash
	flight     []byte // records that are to go out together
}

func (c *Conn) newHandshake(choices *choices) *handshake {
	return &handshake{choices: choices, conn: c, transcript: choices.hash()}
}

// retried has the transcript begin with the hash of the first hello in its place, and the
// request for the second (RFC 8446, section 4.4.1).
func (h *handshake) retried(first, request []byte) {
	sum := h.hash()
	sum.Write(first)
	h.transcript.Reset()
	h.transcript.Write(messageOf(messageHash, sum.Sum(nil)))
	h.transcript.Write(request)
}

// binder is the binder of a hello: over what came before it and the hello up to its
// binders. The transcript does not have the hello yet, and does not get it.
func (h *handshake) binder(hello *clientHello) ([]byte, error) {
	sum, err := h.upTo(hello.raw[:hello.truncated])
	if err != nil {
		return nil, err
	}
	return h.schedule.binder(sum), nil
}

// upTo is the hash of the transcript with message after it.
func (h *handshake) upTo(message []byte) ([]byte, error) {
	cloner, ok := h.transcript.(hash.Cloner)
	if !ok {
		return nil, errNoClone
	}
	clone, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	clone.Write(message)
	return clone.Sum(nil), nil
}

func (h *handshake) sum() []byte { return h.transcript.Sum(nil) }

// add appends a message to the flight, in as many records as it needs, and to the
// transcript.
func (h *handshake) add(message []byte) error {
	h.transcript.Write(message)
	return h.addRecords(message)
}

func (h *handshake) addRecords(message []byte) (err error) {
	for len(message) > 0 {
		n := min(len(message), maxPlaintext)
		if h.flight, err = h.conn.out.seal(h.flight, recordHandshake, message[:n]); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}

// addChangeCipherSpec appends the record that old middleboxes wait for (RFC 8446, appendix D.4).
func (h *handshake) addChangeCipherSpec() {
	h.flight = append(h.flight, recordChangeCipherSpec, 3, 3, 0, 1, 1)
}

// send sends the flight.
func (h *handshake) send() error {
	_, err := h.conn.net.Write(h.flight)
	h.flight = h.flight[:0]
	return err
}

// read reads the next message, which must be of that kind.
func (h *handshake) read(kind byte) ([]byte, error) {
	message, err := h.conn.readMessage()
	if err != nil {
		return nil, err
	}
	if message[0] != kind {
		if kind == messageFinished && (message[0] == messageCertificate || message[0] == messageCertificateRequest) {
			return nil, refuse(AlertUnexpectedMessage, "the other end speaks of certificates; here there are pre-shared keys only")
		}
		return nil, refuse(AlertUnexpectedMessage, "a handshake message of kind %d comes where one of kind %d is due", message[0], kind)
	}
	return message, nil
}

// addFinished appends Finished, under an end's handshake secret.
func (h *handshake) addFinished(secret []byte) error {
	return h.add(messageOf(messageFinished, finished(h.suite.hash, secret, h.sum())))
}

// readFinished reads the peer's Finished and compares it.
func (h *handshake) readFinished(secret []byte) error {
	want := finished(h.suite.hash, secret, h.sum())
	message, err := h.read(messageFinished)
	if err != nil {
		return err
	}
	if len(message) != 4+len(want) {
		return refuse(AlertDecodeError, "a finished message is %d bytes long, not %d", len(message)-4, len(want))
	}
	if subtle.ConstantTimeCompare(message[4:], want) != 1 {
		return refuse(AlertDecryptError, "the handshake was changed on its way")
	}
	h.transcript.Write(message)
	return nil
}

// secrets are the traffic secrets of one stage.
type secrets struct{ client, server []byte }

func (h *handshake) secrets(client, server string) secrets {
	sum := h.sum()
	return secrets{h.schedule.derive(client, sum), h.schedule.derive(server, sum)}
}

// fill reads random bytes.
func (h *handshake) fill(b []byte) error { return readRandom(h.random, b) }

// done forgets what only the handshake needs.
func (h *handshake) done() {
	if h.schedule != nil {
		clear(h.schedule.secret)
	}
}
