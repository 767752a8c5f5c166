package grpc

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const sealedStore = "00112233445566778899aabbccddeeff"

// sealing is the log of a collector that signs.
type sealing struct {
	signer note.Signer
	public string

	mu     sync.Mutex
	hashes []tlog.Hash // guarded by mu
	size   int64       // guarded by mu
	asked  int         // guarded by mu
	signed int         // guarded by mu
}

func newSealing(t *testing.T) *sealing {
	secret, public, err := checkpoint.Generate("hub1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.ReadSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return &sealing{signer: signer, public: public}
}

func (s *sealing) read(at []int64) (out []tlog.Hash, err error) {
	for _, n := range at {
		out = append(out, s.hashes[n])
	}
	return out, nil
}

func (s *sealing) grow(t *testing.T, to int64, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.size < to {
		h, err := tlog.StoredHashes(s.size, fmt.Appendf(nil, "%s %d", what, s.size), tlog.HashReaderFunc(s.read))
		if err != nil {
			t.Fatal(err)
		}
		s.hashes, s.size = append(s.hashes, h...), s.size+1
	}
}

// newest is what the collector sends.
func (s *sealing) newest() *fleet.StreamResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := tlog.TreeHash(s.size, tlog.HashReaderFunc(s.read))
	if err != nil {
		panic(err)
	}
	s.signed++ // each another one
	text, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: "hub1", Size: s.size, Root: root, Time: time.Unix(1763805600+int64(s.signed), 0), Store: sealedStore}, s.signer)
	if err != nil {
		panic(err)
	}
	return &fleet.StreamResponse{Message: &fleet.StreamResponse_Checkpoint{Checkpoint: &fleet.Checkpoint{Text: text, Key: s.public}}}
}

func (s *sealing) prove(p *fleet.Prove) *fleet.StreamResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	c := &fleet.Consistency{From: p.GetFrom(), To: p.GetTo()}
	if proof, err := tlog.ProveTree(int64(p.GetTo()), int64(p.GetFrom()), tlog.HashReaderFunc(s.read)); err == nil {
		for i := range proof {
			c.Hashes = append(c.Hashes, proof[i][:])
		}
	}
	return &fleet.StreamResponse{Message: &fleet.StreamResponse_Consistency{Consistency: c}}
}

func (f *fixture) sealed() (*collector, *sealing) {
	c, s := f.serve(), newSealing(f.t.(*testing.T))
	c.mu.Lock()
	c.seal, c.store = s, []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	c.mu.Unlock()
	return c, s
}

// Over real connections: what the collector signs is kept, each goes on from the one before, by a
// proof that is asked for; and one whose log was changed meanwhile is found.
func TestWitness(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c, log := f.sealed()
	spool := t.TempDir()
	keys := filepath.Join(spool, "keys")
	if err := os.WriteFile(keys, []byte(log.public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.witness, err = witness.New(witness.Config{Spool: spool, Keys: keys}); err != nil {
		t.Fatal(err)
	}
	f.witness.Load()
	kept := func(size int64) {
		t.Helper()
		need.Wait(t, "the checkpoint is kept", func() bool {
			_ = f.witness.Close()
			k, err := witness.Read(spool)
			return err == nil && len(k.Held) == 1 && k.Held[0].Size == size
		})
	}
	log.grow(t, 100, "a")
	src := newSource(300)
	f.send(src, c.addr)
	kept(100)
	if !c.opens[0].GetWitness() {
		t.Error("it did not say that it is a witness")
	}
	log.grow(t, 177, "a")
	f.during(src, ship.Config{Servers: []string{c.addr}}, func(*ship.Sender) { kept(177) })
	log.mu.Lock()
	if log.asked != 1 {
		t.Errorf("asked for %d proofs", log.asked)
	}
	log.hashes, log.size = nil, 0
	log.mu.Unlock()
	log.grow(t, 90, "a")
	log.grow(t, 300, "b")
	f.during(src, ship.Config{Servers: []string{c.addr}}, func(*ship.Sender) {
		need.Wait(t, "the fork is found", func() bool { return f.witness.Counts().Alarms[witness.Fork] == 1 })
	})
	if got := len(c.order); got != len(src.wanted()) {
		t.Errorf("%d records came, of %d", got, len(src.wanted()))
	}
}

// A collector that sends checkpoints without end, or does not read what it is asked, holds up no records.
func TestHostileSealing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c, log := f.sealed()
	log.grow(t, 10, "a")
	c.mu.Lock()
	c.flood = 2000
	c.mu.Unlock()
	var err error
	if f.witness, err = witness.New(witness.Config{Spool: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	f.witness.Load()
	src := newSource(3000)
	f.send(src, c.addr)
	if got := len(c.order); got != len(src.wanted()) {
		t.Errorf("%d records came, of %d", got, len(src.wanted()))
	}
	if n := f.witness.Counts(); n.Checkpoints > 100 || n.Passed == 0 {
		t.Errorf("%+v", n)
	}
}
