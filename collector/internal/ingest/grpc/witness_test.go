package grpc

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// fakeSeal is a log whose checkpoints are its size in words, and whose proofs are made up.
type fakeSeal struct {
	mu    sync.Mutex
	size  int64 // guarded by mu
	asked int   // guarded by mu
}

func (s *fakeSeal) Latest() ([]byte, checkpoint.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size == 0 {
		return nil, checkpoint.Checkpoint{}
	}
	return fmt.Appendf(nil, "size %d", s.size), checkpoint.Checkpoint{Size: s.size}
}

func (s *fakeSeal) Consistency(from, to int64) (tlog.TreeProof, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if to > s.size {
		return nil, errors.New("it has not grown to that yet")
	}
	return tlog.TreeProof{{byte(from)}, {byte(to)}}, nil
}

func (s *fakeSeal) grow(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = size
}

func witnessed(t *testing.T, l Limits) (*fixture, *fakeSeal) {
	seal := &fakeSeal{}
	return setupSealed(t, l, seal, func(*Config) {}), seal
}

func (c *client) openWitness(id byte) {
	c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: 1, Host: []byte("h"), StreamId: stream(id), Witness: true}}})
}

func (c *client) prove(from, to uint64) {
	c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Prove{Prove: &fleet.Prove{From: from, To: to}}})
}

// signed waits for a checkpoint.
func (c *client) signed(want string) {
	c.f.t.Helper()
	m, err := c.Recv()
	if p := m.GetCheckpoint(); err != nil || string(p.GetText()) != want || p.GetKey() != "hub+key" {
		c.f.t.Fatalf("came %v, %v; want the checkpoint %q", m, err, want)
	}
}

// proved waits for a proof of so many hashes.
func (c *client) proved(from, to uint64, hashes int) {
	c.f.t.Helper()
	m, err := c.Recv()
	p := m.GetConsistency()
	if err != nil || p.GetFrom() != from || p.GetTo() != to || len(p.GetHashes()) != hashes || hashes > 0 && !bytes.Equal(p.GetHashes()[0][:1], []byte{byte(from)}) {
		c.f.t.Fatalf("came %v, %v; want a proof from %d to %d", m, err, from, to)
	}
}

// A forwarder that asks for checkpoints gets the newest behind Opened, and each newer one; one of
// before this was known gets none.
func TestWitness(t *testing.T) {
	t.Parallel()
	f, seal := witnessed(t, Limits{WitnessEvery: 10 * time.Millisecond})
	early := f.dial("web0")
	early.openWitness(1)
	early.want("opened 0")
	seal.grow(3)
	early.signed("size 3")
	c := f.dial("web1")
	c.openWitness(1)
	c.want("opened 0")
	c.signed("size 3")
	c.batch(0, 0, "r0")
	c.want("stored 1")
	seal.grow(9)
	c.signed("size 9")
	c.prove(3, 9)
	c.proved(3, 9, 2)
	c.prove(3, 10) // it has not got there yet
	c.proved(3, 10, 0)
	c.openWitness(2)
	c.want("opened 0") // and not the same checkpoint again
	c.prove(3, 9)
	c.proved(3, 9, 2)
	old := f.dial("old1")
	old.open(1, 0)
	old.batch(0, 0, "r0")
	old.want("opened 0", "stored 1")
	old.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Beat{Beat: &fleet.Beat{}}})
	old.want("alive")
	if v := f.value("grpc_checkpoints_total"); v < 3 {
		t.Errorf("%v checkpoints were sent", v)
	}
}

// Who asks and asks gets little, and costs the log less: the proof that all hosts need is made once.
func TestProofsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	seal := &fakeSeal{}
	f := setupSealed(t, Limits{}, seal, func(c *Config) { c.Now = func() time.Time { return now } })
	seal.grow(1 << 40)
	for n := range 8 {
		c := f.dial(fmt.Sprintf("web%d", n))
		c.openWitness(1)
		c.want("opened 0")
		c.signed(fmt.Sprintf("size %d", int64(1<<40)))
		c.prove(1, 1<<40)
		c.proved(1, 1<<40, 2)
	}
	seal.mu.Lock()
	if seal.asked != 1 {
		t.Errorf("the log made %d proofs", seal.asked)
	}
	seal.mu.Unlock()
	evil := f.dial("evil1")
	evil.openWitness(1)
	evil.want("opened 0")
	evil.signed(fmt.Sprintf("size %d", int64(1<<40)))
	const asks = 500
	for n := range asks {
		evil.prove(uint64(n+1), 1<<39)
	}
	need.Wait(t, "all are passed over but the first", func() bool { return f.value("grpc_proofs_passed_over_total") == asks-proofBurst })
	for n := range proofBurst {
		evil.proved(uint64(n+1), 1<<39, 2)
	}
	for _, p := range [][2]uint64{{0, 5}, {5, 5}, {5, 4}, {1, 1 << 63}} {
		c := f.dial("evil2")
		c.openWitness(1)
		c.want("opened 0")
		c.signed(fmt.Sprintf("size %d", int64(1<<40)))
		c.prove(p[0], p[1])
		c.want("InvalidArgument")
	}
	c := f.dial("evil3")
	c.prove(1, 2)
	c.want("InvalidArgument")
}

// A collector without a key sends no checkpoint, and to ask it for a proof is a mistake.
func TestNoSeal(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	c := f.dial("web1")
	c.openWitness(1)
	c.want("opened 0")
	c.prove(1, 2)
	c.want("InvalidArgument")
}
