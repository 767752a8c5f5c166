package grpc

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Seal is the collector's log, of which forwarders are witnesses: a *seal.Log. Any goroutine may
// call its methods.
type Seal interface {
	// Latest returns the newest checkpoint that was signed; nil: none was. It is in memory.
	Latest() (text []byte, c checkpoint.Checkpoint)
	// Consistency proves that the log of one size goes on in that of another.
	Consistency(from, to int64) (tlog.TreeProof, error)
}

const (
	// DefaultWitnessEvery is how often a forwarder is sent a newer checkpoint at most.
	DefaultWitnessEvery = 10 * time.Second
	// A name is answered one proof a second, and so many in a row.
	proofEvery = time.Second
	proofBurst = 4
	// maxProofs bounds the proofs that are remembered: hosts mostly ask for the same ones.
	maxProofs = 64
	// maxAskers is how many names are remembered before those that ask no more are forgotten.
	maxAskers = 1024
)

// witnesses are what serves forwarders that are witnesses of the log.
type witnesses struct {
	seal Seal
	key  func() string // the public key that seal signs with

	proving sync.Mutex // held while a proof is made: one at a time

	mu     sync.Mutex            // guards everything below; never held with proving
	proofs map[[2]int64][][]byte // by the sizes
	askers map[string]*asker     // by proved name
}

// asker is how many proofs a name may have now.
type asker struct {
	tokens int
	at     time.Time
}

func newWitnesses(seal Seal, key func() string) *witnesses {
	return &witnesses{seal: seal, key: key, proofs: map[[2]int64][][]byte{}, askers: map[string]*asker{}}
}

// Witness has forwarders that ask for it be sent what the log signs, with the public key that
// it is signed with. It is called before Run.
func (s *Server) Witness(seal Seal, key func() string) { s.witnesses = newWitnesses(seal, key) }

// newest returns the message with the newest checkpoint; nil: there is none, or it is the one that
// was sent last.
func (w *witnesses) newest(sent *string) *fleet.StreamResponse {
	text, _ := w.seal.Latest()
	if len(text) == 0 || string(text) == *sent {
		return nil
	}
	*sent = string(text)
	return &fleet.StreamResponse{Message: &fleet.StreamResponse_Checkpoint{Checkpoint: &fleet.Checkpoint{Text: text, Key: w.key()}}}
}

// admit reports whether a name is answered a proof now.
func (w *witnesses) admit(name string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.askers[name]
	if a == nil {
		if len(w.askers) >= maxAskers {
			for name, a := range w.askers {
				if now.Sub(a.at) > proofBurst*proofEvery {
					delete(w.askers, name)
				}
			}
		}
		a = &asker{tokens: proofBurst, at: now}
		w.askers[name] = a
	}
	if n := int(now.Sub(a.at) / proofEvery); n > 0 || now.Before(a.at) {
		a.tokens, a.at = min(proofBurst, a.tokens+max(n, 0)), now
	}
	if a.tokens == 0 {
		return false
	}
	a.tokens--
	return true
}

// prove returns the hashes of a proof; none where there is no such proof.
func (w *witnesses) prove(from, to int64) [][]byte {
	w.proving.Lock()
	defer w.proving.Unlock()
	at := [2]int64{from, to}
	w.mu.Lock()
	hashes, ok := w.proofs[at]
	w.mu.Unlock()
	if ok {
		return hashes
	}
	proof, err := w.seal.Consistency(from, to)
	if err != nil {
		return nil
	}
	for i := range proof {
		hashes = append(hashes, proof[i][:])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.proofs) >= maxProofs {
		clear(w.proofs)
	}
	w.proofs[at] = hashes
	return hashes
}

// prove answers a witness that has one checkpoint and was sent another.
func (c *session) prove(m *fleet.Prove) error {
	w := c.all.witnesses
	switch {
	case !c.opened:
		return c.malformed("order", "a Prove before the first Open")
	case m.GetFrom() == 0 || m.GetTo() <= m.GetFrom() || m.GetTo() > 1<<62:
		return c.malformed("prove", fmt.Sprintf("a proof from %d to %d", m.GetFrom(), m.GetTo()))
	case w == nil:
		return c.malformed("prove", "a Prove, and no Checkpoint was sent")
	case !w.admit(c.id.Name, c.all.cfg.Now()):
		c.all.cfg.Metrics.ProofsPassed.Inc()
		return nil
	}
	answer := &fleet.Consistency{From: m.GetFrom(), To: m.GetTo(), Hashes: w.prove(int64(m.GetFrom()), int64(m.GetTo()))} //nolint:gosec // at most 2^62
	c.all.cfg.Metrics.Proofs.Inc()
	c.push(&pending{s: c, what: aProof, proof: answer, finished: true})
	return nil
}

// signed sends a witness the newest checkpoint, where there is one that it was not sent.
func (c *session) signed() error {
	if !c.witness {
		return nil
	}
	m := c.all.witnesses.newest(&c.shown)
	if m == nil {
		return nil
	}
	c.all.cfg.Metrics.Checkpoints.Inc()
	return c.send(m)
}
