package pki

import "crypto/x509"

// hold is a session whose peer is checked again as things change.
type hold struct {
	id  Identity
	cut func(error)
}

// Hold watches over a session: cut is called once, with a *Refusal, when the peer is no
// longer allowed: within a second of a change of files, at once after SetRules and Reload,
// and when its certificate expires. cut must not wait, nor call the Trust. release ends the
// watch; cut may then still be running, but is not called any more. An error says that the
// peer is not allowed already: then nothing is held.
//
// Trust.Run must run.
func (t *Trust) Hold(id Identity, cut func(error)) (release func(), err error) {
	h := &hold{id: id, cut: cut}
	t.mu.Lock()
	t.held[h] = struct{}{}
	t.mu.Unlock()
	// A change between Identify and now was swept before the session was held; one that
	// comes after this look is swept with it.
	if s := t.current.Load(); s.number != id.seen {
		if err := t.again(s, id, true); err != nil {
			t.release(h)
			return nil, err
		}
	}
	return func() { t.release(h) }, nil
}

// release gives up a session, and reports whether it was held.
func (t *Trust) release(h *hold) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.held[h]
	delete(t.held, h)
	return ok
}

// sessions returns the sessions that are held.
func (t *Trust) sessions() []*hold {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*hold, 0, len(t.held))
	for h := range t.held {
		list = append(list, h)
	}
	return list
}

// sweep ends the sessions whose peers are not allowed any more. What costs little, the deny
// list and the rules, is looked up for all first, and signatures, which only a change of the
// CAs makes necessary, afterwards.
func (t *Trust) sweep() {
	s := t.current.Load()
	list := t.sessions()
	for _, signatures := range []bool{false, true} {
		for _, h := range list {
			if err := t.again(s, h.id, signatures); err != nil && t.release(h) {
				h.cut(err)
			}
		}
	}
}

// expire ends the sessions whose certificates have expired, or those of CAs above them.
func (t *Trust) expire() {
	s, now := t.current.Load(), t.cfg.Now()
	for _, h := range t.sessions() {
		if !now.After(h.id.NotAfter) {
			continue
		}
		// A CA that is trusted since then may be another way.
		if err := t.again(s, h.id, true); err != nil && t.release(h) {
			h.cut(err)
		}
	}
}

// again checks a peer that was allowed once; with signatures in full, else what the deny
// list and the rules say of it.
func (t *Trust) again(s *snapshot, id Identity, signatures bool) error {
	if signatures {
		now, err := s.identify(id.sent, t.cfg.Now())
		if err == nil && !now.Roles.Has(id.Roles) {
			err = s.fewer(id, now.Roles)
		}
		return err
	}
	if err := s.standing(id.Name, [][]*x509.Certificate{id.sent[:1]}); err != nil {
		return err
	}
	roles, err := s.roles(id.Name, id.sent[0])
	if err == nil && !roles.Has(id.Roles) {
		err = s.fewer(id, roles)
	}
	return err
}

func (s *snapshot) fewer(id Identity, roles Roles) *Refusal {
	return refuse(NotAllowed, nil, "%s had the roles %s and has %s now: it may connect again", id, id.Roles, roles)
}
