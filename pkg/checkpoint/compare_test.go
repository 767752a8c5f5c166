package checkpoint_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// log is a tree in memory, whose leaves are the numbers from 0, some of them changed.
type log []tlog.Hash

func newLog(t *testing.T, n int64, changed int64) *log {
	t.Helper()
	l := &log{}
	for i := range n {
		text := fmt.Sprint(i)
		if i == changed {
			text = "changed"
		}
		h, err := tlog.StoredHashes(i, []byte(text), l)
		if err != nil {
			t.Fatal(err)
		}
		*l = append(*l, h...)
	}
	return l
}

func (l *log) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		out = append(out, (*l)[i])
	}
	return out, nil
}

func (l *log) at(t *testing.T, n int64) checkpoint.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(n, l)
	if err != nil {
		t.Fatal(err)
	}
	c := sample("collector1")
	c.Size, c.Root = n, root
	return c
}

func TestConsistent(t *testing.T) {
	l := newLog(t, 40, -1)
	for from := range int64(40) {
		for to := from; to <= 40; to++ {
			var proof tlog.TreeProof
			if from > 0 {
				var err error
				if proof, err = tlog.ProveTree(to, from, l); err != nil {
					t.Fatal(err)
				}
			}
			if err := checkpoint.Consistent(proof, l.at(t, from), l.at(t, to)); err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
		}
	}
}

func TestInconsistent(t *testing.T) {
	l, forked := newLog(t, 40, -1), newLog(t, 40, 5)
	proof, err := tlog.ProveTree(40, 20, forked)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := tlog.ProveTree(40, 20, l)
	if err != nil {
		t.Fatal(err)
	}
	otherStore, otherLog := l.at(t, 40), l.at(t, 40)
	otherStore.Store = "ffffffffffffffffffffffffffffffff"
	otherLog.Origin = "collector2"
	later := l.at(t, 10)
	later.Epoch = 1
	for _, tt := range []struct {
		name     string
		proof    tlog.TreeProof
		old, new checkpoint.Checkpoint
		want     error
	}{
		{"an early leaf changed", proof, l.at(t, 20), forked.at(t, 40), checkpoint.ErrFork},
		{"an early leaf changed, the proof of before", honest, l.at(t, 20), forked.at(t, 40), checkpoint.ErrFork},
		{"no proof", nil, l.at(t, 20), l.at(t, 40), checkpoint.ErrFork},
		{"a proof too long", append(honest[:len(honest):len(honest)], tlog.Hash{}), l.at(t, 20), l.at(t, 40), checkpoint.ErrFork},
		{"two of one size", nil, l.at(t, 20), forked.at(t, 20), checkpoint.ErrFork},
		{"put back", nil, l.at(t, 40), l.at(t, 20), checkpoint.ErrRewind},
		{"put back to nothing", nil, l.at(t, 40), l.at(t, 0), checkpoint.ErrRewind},
		{"another store", honest, l.at(t, 20), otherStore, checkpoint.ErrOther},
		{"put back and accepted", nil, l.at(t, 20), later, checkpoint.ErrAccepted},
		{"back to before that was accepted", honest, later, l.at(t, 20), checkpoint.ErrRewind},
		{"another log", honest, l.at(t, 20), otherLog, checkpoint.ErrOther},
	} {
		if err := checkpoint.Consistent(tt.proof, tt.old, tt.new); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}
