package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// oneBatch is a collector that has stored one batch, whose group its key's owner has made as he likes.
type oneBatch struct {
	codec *group.Codec
	blob  []byte
	leaf  []byte
}

func (o *oneBatch) Inclusion(int64, int64) (tlog.RecordProof, error) { return nil, nil }
func (o *oneBatch) MadeBy(string) (int64, []byte, error)             { return 0, nil, seal.ErrNoLeaf }
func (o *oneBatch) Leaf(uint64) (int64, []byte, error)               { return 0, o.leaf, nil }
func (o *oneBatch) WithGroup(_ context.Context, _ uint64, fn func(*group.Group) error) error {
	g, err := o.codec.Open(o.blob)
	if err != nil {
		return err
	}
	return fn(g)
}

// sealed gives the batch its leaf and returns the checkpoint.
func (o *oneBatch) sealed(t *testing.T, signer note.Signer) []byte {
	t.Helper()
	l := &seal.Leaf{Kind: seal.Batch, Store: seglog.ID{1}, Batch: 1, Size: uint64(len(o.blob))}
	err := o.WithGroup(t.Context(), 1, func(g *group.Group) error {
		tree, err := g.PieceTree()
		if err == nil {
			l.Hash, l.Pieces, l.Events = tree.Root(), uint64(tree.Len()), g.Summary.Events
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o.leaf = l.Encode()
	text, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: signer.Name(), Size: 1, Root: tlog.RecordHash(o.leaf), Time: time.Unix(1700000000, 0).UTC(), Store: l.Store.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// reframed is a group of one frame with other bytes in its place, all checksums right.
func reframed(blob, frame []byte, raw uint32) []byte {
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	out := slices.Clone(blob)
	n := int(binary.LittleEndian.Uint16(out[10:]))
	for i := range n {
		e := out[16+24*i:]
		off := binary.LittleEndian.Uint64(e[8:])
		switch e[0] {
		case 4: // the frame table
			f := out[off:]
			binary.LittleEndian.PutUint32(f[4:], uint32(len(frame)))
			binary.LittleEndian.PutUint32(f[8:], raw)
			binary.LittleEndian.PutUint32(f[12:], sum(frame))
			binary.LittleEndian.PutUint32(e[4:], sum(f[:16]))
		case 5: // the frames, which come last
			binary.LittleEndian.PutUint64(e[16:], uint64(len(frame)))
			out = append(out[:off:off], frame...)
		}
	}
	binary.LittleEndian.PutUint32(out[12:], crc32.Update(sum(out[:12]), crc32.MakeTable(crc32.Castagnoli), out[16:16+24*n]))
	return out
}

// Whoever has the collector's key can have it vouch for any batch; what checks a bundle stays within its bounds and says so
// whatever that batch has.
func TestForgedBatch(t *testing.T) {
	t.Parallel()
	secret, public, err := checkpoint.Generate("hub")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.ReadSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := checkpoint.ReadVerifiers(public)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := group.NewCodec(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { codec.Close() })
	ev := &event.Event{}
	store.ParseInto(ev, []byte("type=USER msg=audit(1700000000.000:1): pid=1\n\n"), false, []byte("web1"), store.Origin{})
	ev.Batch = 1
	tab := store.NewTable()
	tab.Add("web1", ev)
	blob, _, err := codec.Encode(tab)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { enc.Close() })
	zeros := make([]byte, 128<<20)
	bomb := enc.EncodeAll(zeros, nil)
	text := enc.EncodeAll([]byte("type=USER msg=audit(1700000000.000:1): pid=2\n\n"), nil)
	for _, c := range []struct {
		name  string
		frame []byte
		raw   uint32
		want  string // "" is good
	}{
		{"as it was", enc.EncodeAll([]byte("type=USER msg=audit(1700000000.000:1): pid=1\n\n"), nil), 46, ""},
		{"another record", text, 46, "a record of lines"},
		{"a bomb that says so", bomb, 128 << 20, "frame 0: the store is damaged: its text has 134217728 bytes"},
		{"long, and says that it is longer", bytes.Repeat([]byte("x"), 17<<20), 1<<32 - 1, "frame 0: the store is damaged: its text has 4294967295 bytes"},
		{"a bomb that says that it is small", bomb, 46, "unpack frame 0"},
		{"a short frame", enc.EncodeAll([]byte("type\n\n"), nil), 6, "a block at 0"},
		{"a frame of nothing", nil, 0, ""},
		{"no end of an event", enc.EncodeAll(bytes.Repeat([]byte("x"), 46), nil), 46, "no end within"},
		{"no zstd", []byte("type=USER msg=audit(1700000000.000:1): pid=1\n\n"), 46, "unpack frame 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := &oneBatch{codec: codec, blob: blob}
			dir := filepath.Join(t.TempDir(), "b")
			folder, err := NewFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			m := Making{
				Query: &query.Query{}, About: Query{Store: seglog.ID{1}.String(), Words: []string{}, LastBatch: 1}, Log: good, Groups: good, Checkpoint: good.sealed(t, signer), Size: 1,
				Signer: signer, Send: folder.Take,
				Scan:     func(_ context.Context, _ *query.Query, fn func(*event.Event) error) error { return fn(ev) },
				Coverage: func(context.Context, []string, int64, int64) ([]byte, error) { return nil, nil },
			}
			if about, err := Make(t.Context(), m); err != nil || about.Proved != 1 {
				t.Fatalf("%+v, %v", about, err)
			}
			if err := folder.Finish(); err != nil {
				t.Fatal(err)
			}
			forge(t, dir, signer, &oneBatch{codec: codec, blob: reframed(blob, c.frame, c.raw)})
			rep, err := Verify(dir, keys)
			switch {
			case c.name == "as it was":
				if err != nil || rep.Proved != 1 {
					t.Errorf("%+v, %v", rep, err)
				}
			case !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), c.want):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// forge puts another batch in the place of a bundle's, as who has the key can.
func forge(t *testing.T, dir string, signer note.Signer, bad *oneBatch) {
	t.Helper()
	cp := bad.sealed(t, signer)
	p := &Proof{Batch: 1, Events: [][]int64{{1, 0}}, Leaf: base64.StdEncoding.EncodeToString(bad.leaf)}
	var pieces []byte
	err := bad.WithGroup(t.Context(), 1, func(g *group.Group) error {
		tree, err := g.PieceTree()
		if err != nil {
			return err
		}
		all, err := g.Pieces()
		if err != nil {
			return err
		}
		needed, err := g.Needed([]int64{0})
		if err != nil {
			return err
		}
		for _, n := range needed {
			p.Pieces = append(p.Pieces, []int64{n, int64(len(pieces)), int64(len(all[n]))})
			pieces = append(pieces, all[n]...)
		}
		p.Of = tree.Len()
		return p.rest(tree, needed)
	})
	if err != nil {
		t.Fatal(err)
	}
	line, err := encodeLine(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{Pieces: pieces, Proofs: append(line, '\n'), Checkpoint: cp} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var list []entry
	for _, name := range files(Format) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry{name, int64(len(b)), sha256.Sum256(b)})
	}
	text, err := sign(manifestText(plainFormat, seglog.ID{1}.String(), list), signer)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, Manifest), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
