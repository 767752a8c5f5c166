package server

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Each attack on what is proved by pieces is found, though the collector's own key signs it: pieces that are changed, exchanged, left out or too
// many, and events that are said to lie elsewhere in them.
func TestPieceAttacks(t *testing.T) {
	t.Parallel()
	key, _, keys := sealKey(t, "hub.example.net")
	r := evidenceHub(t, key, ProveFrames)
	dir := r.bundle(web1, api.Bundle{})
	hub := r.seal.Signer()
	groups := r.store.(evidence.Groups)
	// without has a proof that leaves out a piece as a collector could: with the hashes that it needs then.
	without := func(p *evidence.Proof, at int) {
		err := groups.WithGroup(t.Context(), p.Batch, func(g *group.Group) error {
			tree, err := g.PieceTree()
			if err != nil {
				return err
			}
			p.Pieces = slices.Delete(p.Pieces, at, at+1)
			var numbers []int64
			for _, x := range p.Pieces {
				numbers = append(numbers, x[0])
			}
			hashes, err := tree.Prove(numbers)
			p.Tree = nil
			for _, h := range hashes {
				p.Tree = append(p.Tree, hex.EncodeToString(h[:]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		// do changes the proof of the first batch and its pieces, which are put together again; other is another batch's.
		do   func(p, other *evidence.Proof, pieces, others [][]byte) [][]byte
		want string
	}{
		{"a frame changed", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[len(b)-1][9] ^= 1; return b }, "are not those of the batch"},
		{"a section changed", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[3][9] ^= 1; return b }, "are not those of the batch"},
		{"the head changed", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[0][20] ^= 1; return b }, "piece 0"},
		{"a head of nothing", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[0] = nil; return b }, "piece 0"},
		{"a frame of another batch", func(_, _ *evidence.Proof, b, o [][]byte) [][]byte { b[len(b)-1] = o[len(o)-1]; return b }, "are not those of the batch"},
		{"all of another batch", func(p, o *evidence.Proof, _, b [][]byte) [][]byte {
			p.Tree, p.Of, p.Pieces = o.Tree, o.Of, slices.Clone(o.Pieces)
			return b
		}, "are not those of the batch"},
		{"all of another batch, and its leaf", func(p, o *evidence.Proof, _, b [][]byte) [][]byte {
			p.Tree, p.Of, p.Pieces, p.Leaf, p.Index, p.Path = o.Tree, o.Of, slices.Clone(o.Pieces), o.Leaf, o.Index, o.Path
			return b
		}, "its leaf is of batch"},
		{"sections exchanged", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[2], b[3] = b[3], b[2]; return b }, "are not those of the batch"},
		{"numbers exchanged", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte {
			p.Pieces[2][0], p.Pieces[3][0] = p.Pieces[3][0], p.Pieces[2][0]
			return b
		}, "a piece ["},
		{"a piece twice", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte {
			p.Pieces = append(p.Pieces, p.Pieces[len(b)-1])
			return append(b, b[len(b)-1])
		}, "a piece ["},
		{"a piece beyond the last", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Pieces[len(b)-1][0] = p.Of; return b }, "the proof does not fit"},
		{"a number below 0", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Pieces[0][0] = -1; return b }, "a piece ["},
		{"the head left out", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { without(p, 0); return b[1:] }, "a piece ["},
		{"the blocks left out", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { without(p, 3); return slices.Delete(b, 3, 4) }, "section 3/0 has 0 bytes"},
		{"the frame left out", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { without(p, len(b)-1); return b[:len(b)-1] }, "its pieces have no event"},
		{"cut short", func(_, _ *evidence.Proof, b, _ [][]byte) [][]byte { b[len(b)-1] = b[len(b)-1][:9]; return b }, "are not those of the batch"},
		{"fewer pieces said", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Of--; return b }, "its leaf is of"},
		{"no pieces", func(p, _ *evidence.Proof, _, _ [][]byte) [][]byte { p.Pieces = nil; return nil }, "its leaf is of batch"},
		{"an odd piece", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Pieces[1] = p.Pieces[1][:2]; return b }, "a piece ["},
		{"an event elsewhere", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Events[len(p.Events)-1][1]++; return b }, ""},
		{"an event far away", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Events[len(p.Events)-1][1] = 1 << 40; return b }, "its pieces have no event"},
		{"an event before the first", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Events[0][1] = -1; return b }, "the proof does not fit"},
		{"two events in one place", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Events[1][1] = p.Events[0][1]; return b }, "the proof does not fit"},
		{"an event of another host", func(p, _ *evidence.Proof, b, _ [][]byte) [][]byte { p.Events[0] = append(p.Events[0], 1); return b }, "a record of lines"},
		{"of a bundle of version 1", nil, "format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := copyBundle(t, dir)
			if c.do == nil {
				change(t, bad, evidence.QueryFile, `"format": 2`, `"format": 1`)
			} else {
				reproved(t, bad, c.do)
			}
			again(t, bad, hub)
			rep, err := evidence.Verify(bad, keys)
			if !errors.Is(err, evidence.ErrChanged) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q; %d proved", err, c.want, rep.Proved)
			}
		})
	}
	t.Run("bytes behind the last piece", func(t *testing.T) {
		bad := copyBundle(t, dir)
		reproved(t, bad, nil)
		f, err := os.OpenFile(filepath.Join(bad, evidence.Pieces), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("x")
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		again(t, bad, hub)
		if _, err := evidence.Verify(bad, keys); !errors.Is(err, evidence.ErrChanged) || !strings.Contains(err.Error(), "of which no proof says anything") {
			t.Error(err)
		}
	})
	good := copyBundle(t, dir)
	reproved(t, good, nil)
	again(t, good, hub)
	if _, err := evidence.Verify(good, keys); err != nil {
		t.Errorf("put together again without a change: %v", err)
	}
}

// reproved has the first batch's proof and pieces changed, and writes both files again.
func reproved(t *testing.T, dir string, do func(p, other *evidence.Proof, pieces, others [][]byte) [][]byte) {
	t.Helper()
	files := readAll(t, dir)
	var list []*evidence.Proof
	var pieces [][][]byte
	for line := range strings.Lines(files[evidence.Proofs]) {
		p := &evidence.Proof{}
		if err := json.Unmarshal([]byte(line), p); err != nil {
			t.Fatal(err)
		}
		var own [][]byte
		for _, x := range p.Pieces {
			own = append(own, []byte(files[evidence.Pieces][x[1]:x[1]+x[2]]))
		}
		list, pieces = append(list, p), append(pieces, own)
	}
	if do != nil {
		pieces[0] = do(list[0], list[1], pieces[0], pieces[1])
	}
	var all, lines bytes.Buffer
	for i, p := range list {
		for j, b := range pieces[i] {
			if len(p.Pieces[j]) == 3 {
				p.Pieces[j] = []int64{p.Pieces[j][0], int64(all.Len()), int64(len(b))}
			}
			all.Write(b)
		}
		enc := json.NewEncoder(&lines)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(p); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{evidence.Pieces: all.Bytes(), evidence.Proofs: lines.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
