package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

const (
	// lookBurst is how many checkpoints of one connection are looked at in a row, and lookEvery
	// the time between two after that.
	lookBurst = 8
	lookEvery = time.Second
	// MaxProof is the most hashes of a proof: of a log of 2^63 leaves.
	MaxProof = 64
	// clockBack is how far the time of signing may go back before it is said.
	clockBack = time.Minute
	maxKey    = 512
)

// Session is one connection to a collector. One goroutine calls its methods.
type Session struct {
	k      *Keeper
	server string
	store  string // that the collector says it has; "": it says none
	// least has, by store, the size that was kept when the connection was begun: the collector had
	// signed as much by then. What other connections got since may be ahead of this one.
	least map[string]mark

	tokens  int
	refill  time.Time
	acked   time.Time // when Acked was looked at last
	last    string    // the text that was looked at last
	pending *pending  // waits for a proof
}

// mark is how far a log was: sizes of two epochs do not compare.
type mark struct{ epoch, size int64 }

// pending is a checkpoint that waits for the proof that it goes on from the one kept.
type pending struct {
	checkpoint.Checkpoint
	text  []byte
	key   string
	given bool
	from  int64
}

// Session begins a connection to a server. It is called before the collector is told anything.
func (k *Keeper) Session(server string) *Session {
	if err := k.Reload(); err != nil {
		k.cfg.Log.Warn("the keys that were read before count on", "error", err)
	}
	s := &Session{k: k, server: server, least: map[string]mark{}, tokens: lookBurst, refill: k.cfg.Now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	for store, h := range k.held {
		s.least[store] = mark{h.Epoch, h.Size}
	}
	return s
}

// Opened says which store the collector has.
func (s *Session) Opened(store []byte) { s.store = hex.EncodeToString(store) }

// admit reports whether another checkpoint is looked at now.
func (s *Session) admit() bool {
	now := s.k.cfg.Now()
	if n := int(now.Sub(s.refill) / lookEvery); n > 0 || now.Before(s.refill) {
		s.tokens, s.refill = min(lookBurst, s.tokens+max(n, 0)), now
	}
	ok := s.tokens > 0
	if ok {
		s.tokens--
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if ok {
		s.k.counts.Checkpoints++
	} else {
		s.k.counts.Passed++
	}
	return ok
}

// keyID is a public key's name and hash.
func keyID(key string) string {
	if at := strings.LastIndexByte(key, '+'); at >= 0 {
		return key[:at]
	}
	return key
}

// bad is a finding about something that can't be gone by.
func (s *Session) bad(text []byte, held *Held, format string, args ...any) {
	i := &Incident{Op: Bad, Server: s.server, Text: "what a collector says of its log cannot be gone by: " + fmt.Sprintf(format, args...), Given: text[:min(len(text), maxText)]}
	store := ""
	if held != nil {
		i.Held, store = held.Text, held.Store
	}
	s.k.find(i, format, store)
}

// Checkpoint takes what came. Where to is not 0, the collector is to be asked for a proof between the
// two sizes.
func (s *Session) Checkpoint(text []byte, key string) (from, to uint64) {
	if string(text) == s.last || !s.admit() {
		return 0, 0
	}
	s.pending = nil
	if len(text) > maxText || len(key) > maxKey || strings.ContainsFunc(key, unicode.IsControl) {
		s.bad(text, nil, "a checkpoint of %d bytes, with a key of %d", len(text), len(key))
		return 0, 0
	}
	s.last = string(text)
	c, err := checkpoint.Parse(text)
	if err != nil {
		s.bad(text, nil, "%v", err)
		return 0, 0
	}
	p := &pending{Checkpoint: c, text: text}
	if !s.verify(p, key) {
		return 0, 0
	}
	if s.store != "" && c.Store != s.store {
		s.bad(text, nil, "a checkpoint of the store %s, where the collector says that it has %s", c.Store, s.store)
		return 0, 0
	}
	return s.compare(p)
}

// verify finds the key that signed a checkpoint, and whether it is one to go by.
func (s *Session) verify(p *pending, shown string) bool {
	held := s.k.heldOf(p.Store)
	if given := s.k.given(); given != nil {
		for _, key := range given {
			err := signs(key, p.text)
			if err == nil {
				p.given, p.key = true, key
				return true
			}
			if !errors.Is(err, checkpoint.ErrKey) {
				s.bad(p.text, held, "%v", err)
				return false
			}
		}
		s.otherKey(p, held, signedBy(p.text, shown), "a collector signs with a key that is none of seal_keys: its checkpoints are not gone by")
		return false
	}
	if held != nil && signs(held.Key, p.text) == nil {
		p.key = held.Key
		return true
	}
	if err := signs(shown, p.text); err != nil {
		s.bad(p.text, held, "%v", err)
		return false
	}
	p.key = shown
	others, same := s.k.keysOf(s.server)
	switch {
	case held != nil && held.Key != shown:
		s.otherKey(p, held, shown, "a collector signs with another key than before, and no seal_keys say that it may: from now on it is gone by")
	case held == nil && others > 0 && !same(shown):
		s.otherKey(p, nil, shown, "a collector has another store, and signs with another key than before, and no seal_keys say that it may: from now on it is gone by")
	}
	return true
}

// otherKey is a finding about a key.
func (s *Session) otherKey(p *pending, held *Held, key, text string) {
	i := &Incident{Op: Key, Server: s.server, Text: text, Given: p.text, Key: key}
	if held != nil {
		i.Held = held.Text
	}
	s.k.find(i, keyID(key), p.Store)
}

// signedBy names the key that signed a text, as far as it can be told.
func signedBy(text []byte, shown string) string {
	if signs(shown, text) == nil {
		return shown
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "— "); ok {
			name, _, _ = strings.Cut(name, " ")
			return name
		}
	}
	return ""
}

// signs returns nil where a public key has signed a text.
func signs(key string, text []byte) error {
	list, err := checkpoint.ReadVerifiers(key)
	if err == nil && len(list) != 1 {
		err = errors.New("several keys in the place of one")
	}
	if err != nil {
		return err
	}
	_, err = checkpoint.Open(text, note.VerifierList(list...))
	return err
}

// compare compares a checkpoint that is signed as it should be with the one kept.
func (s *Session) compare(p *pending) (from, to uint64) {
	held := s.k.heldOf(p.Store)
	if held == nil {
		s.k.begin(s.server, p)
		return 0, 0
	}
	least, is := s.least[p.Store], mark{p.Epoch, p.Size}
	if is.epoch > least.epoch || is.epoch == least.epoch && is.size > least.size {
		s.least[p.Store] = is
	}
	switch {
	case p.Epoch > held.Epoch:
		s.found(Restored, p, held, "somebody who has the collector's key has accepted that its log does not go on from what it had signed: a store that was put back on purpose, if its administrator says so")
		return 0, 0
	case is.epoch < least.epoch, is.epoch == least.epoch && is.size < least.size:
		s.found(Rewind, p, held, "a collector's log has fewer leaves than it had: its store was put back to an older state, or its log was cut")
		s.least[p.Store] = is
		return 0, 0
	case p.Epoch < held.Epoch, p.Size < held.Size:
		return 0, 0 // another connection got more since this one was begun
	case p.Size > held.Size && held.Size > 0:
		p.from = held.Size
		s.pending = p
		return uint64(held.Size), uint64(p.Size) //nolint:gosec // both are positive
	case p.Size == held.Size && p.Root != held.Root:
		s.found(Fork, p, held, "a collector has signed two logs of the same size: its store was changed, or two copies of it go on apart")
		return 0, 0
	}
	s.goesOn(p, held)
	return 0, 0
}

// goesOn has a checkpoint kept that goes on from the one kept.
func (s *Session) goesOn(p *pending, held *Held) {
	if p.Time.Before(held.Time.Add(-clockBack)) {
		s.k.find(&Incident{Op: Clock, Server: s.server, Text: "the time at which a collector signs went back", Held: held.Text, Given: p.text}, p.Store, stampOf(held.Time)[:10])
	}
	s.k.keep(s.server, p, true)
}

// found is a finding about a log, which is followed from then on.
func (s *Session) found(op string, p *pending, held *Held, text string) {
	s.k.find(&Incident{Op: op, Server: s.server, Text: text, Held: held.Text, Given: p.text}, p.Store, sizeRoot(&held.Checkpoint), sizeRoot(&p.Checkpoint))
	s.k.keep(s.server, p, false)
}

func sizeRoot(c *checkpoint.Checkpoint) string {
	return fmt.Sprintf("%d %d %s", c.Epoch, c.Size, c.Root)
}

// Proof takes the answer to what Checkpoint asked for, or to what Proof did: a further question, as
// Checkpoint's, where another connection got a newer checkpoint meanwhile.
func (s *Session) Proof(from, to uint64, hashes [][]byte) (againFrom, againTo uint64) {
	p := s.pending
	if p == nil || uint64(p.from) != from || uint64(p.Size) != to { //nolint:gosec // both are positive
		return 0, 0 // asked for before a newer one came, or never
	}
	s.pending = nil
	held := s.k.heldOf(p.Store)
	switch {
	case held == nil, p.Epoch != held.Epoch, p.Size < held.Size:
		return 0, 0
	case held.Size != p.from:
		if held.Size == p.Size {
			return s.compare(p)
		}
		p.from, s.pending = held.Size, p
		return uint64(held.Size), to //nolint:gosec // positive
	case len(hashes) == 0:
		s.bad(p.text, held, "it does not prove that its log of %d leaves goes on from that of %d", to, from)
		return 0, 0
	}
	proof := make(tlog.TreeProof, 0, min(len(hashes), MaxProof))
	for _, h := range hashes {
		if len(h) != sha256.Size || len(proof) == MaxProof {
			s.bad(p.text, held, "a proof of %d hashes, one of %d bytes", len(hashes), len(h))
			return 0, 0
		}
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckTree(proof, p.Size, p.Root, held.Size, held.Root); err != nil {
		s.found(Fork, p, held, "a collector's log does not go on from what it had signed before: its store was changed, or two copies of it go on apart")
		return 0, 0
	}
	s.goesOn(p, held)
	return 0, 0
}
