package kernel

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// askAgain is how often register asks the kernel who is registered, while the
// acknowledgement of a registration does not come: the kernel drops an acknowledgement
// that finds the receive buffer full.
const askAgain = 100 * time.Millisecond

// register makes this process the audit daemon. It sends the request on the socket that
// receives records, because the kernel sends records to the requester's port; the
// acknowledgement comes between records.
func (l *Listener) register() error {
	l.regMu.Lock()
	defer l.regMu.Unlock()
	if l.leaving {
		return nil
	}
	seq := l.ackSeq.Add(1)
	s := Status{Mask: MaskPID, PID: uint32(l.cfg.PID)}
	select {
	case <-l.acks: //nolint:errcheck // the late answer to a request that timed out
	default:
	}
	msg := AppendMessage(nil, Message{Type: MsgSet, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: seq, Payload: s.Append(nil)})
	if err := l.sock.Send(msg); err != nil {
		return &OpError{Op: "register as the audit daemon", Err: err}
	}
	await := l.awaitFirst
	if l.begun {
		await = l.awaitAck
	}
	err := await()
	switch {
	case errors.Is(err, unix.EEXIST):
		return l.otherDaemon()
	case errors.Is(err, errHeld):
		return nil
	case err != nil:
		return &OpError{Op: "register as the audit daemon", Err: err}
	}
	l.registered.Add(1)
	l.mu.Lock()
	l.isRegistered = true
	l.mu.Unlock()
	return nil
}

// errHeld is returned when the reader stopped for a full queue while an answer was
// waited for. The look after it goes on tries again.
var errHeld = errors.New("the reader stopped meanwhile")

// awaitAck waits for the answer to register while the reader runs, which passes it on.
// The kernel has done what it was asked before Send returned: what counts is who is
// registered.
func (l *Listener) awaitAck() error {
	deadline := time.Now().Add(answerTimeout)
	for {
		select {
		case err := <-l.acks:
			return err
		case <-time.After(askAgain):
		}
		s, err := l.ctl.Status()
		switch {
		case err != nil:
			return err
		case s.PID == uint32(l.cfg.PID):
			return nil
		case s.PID != 0:
			return unix.EEXIST
		case l.holding.Load():
			return errHeld
		case time.Now().After(deadline):
			return ErrNoAnswer
		}
	}
}

// awaitFirst waits for the answer to register before Run: it reads the socket itself.
func (l *Listener) awaitFirst() error {
	deadline := time.Now().Add(answerTimeout)
	for {
		n, err := l.receive()
		if err != nil {
			return err
		}
		select {
		case err := <-l.acks:
			return err
		default:
		}
		if time.Now().After(deadline) {
			return ErrNoAnswer
		}
		if n == 0 {
			if err := l.sock.Wait(time.Until(deadline)); err != nil {
				return err
			}
		}
	}
}

// unregister hands the registration back.
func (l *Listener) unregister() error {
	l.regMu.Lock()
	defer l.regMu.Unlock()
	l.leaving = true
	l.mu.Lock()
	registered := l.isRegistered
	l.isRegistered = false
	l.mu.Unlock()
	if !registered {
		return nil
	}
	return l.ctl.Set(Status{Mask: MaskPID, PID: 0})
}
