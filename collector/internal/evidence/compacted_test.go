package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// hub is a store with a log that is signed.
type hub struct {
	t      *testing.T
	st     *bolt.Store
	log    *seal.Log
	keys   []note.Verifier
	signer note.Signer
	next   uint64
}

// newKey makes a key for the log of a hub: what signs with it, the file of its public half, and what verifies by that.
func newKey(t *testing.T) (signer note.Signer, public string, keys []note.Verifier) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	_, err := seal.InitKey(key, "hub.example.net")
	if err == nil {
		signer, public, err = seal.ReadKey(key)
	}
	if err == nil {
		keys, err = seal.ReadVerifiers(public)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer, public, keys
}

func newHub(t *testing.T, roots bool) *hub {
	t.Helper()
	h := &hub{t: t}
	var public string
	h.signer, public, h.keys = newKey(t)
	dir := filepath.Join(t.TempDir(), "store")
	var err error
	h.st, err = bolt.Open(bolt.Options{Dir: dir})
	h.must(err)
	t.Cleanup(func() { _ = h.st.Close() })
	h.st.ProveEvents(roots)
	h.log, err = seal.OpenLog(seal.LogConfig{Tree: h.st.Seals(), Store: dir, Signer: h.signer, Public: public,
		CatchUp: func(ctx context.Context, trees bool) error { return h.st.CatchUp(ctx, trees && roots) }})
	h.must(err)
	h.st.VouchWith(h.log.Vouch)
	return h
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// days stores batches on each of some days, with events of all of them; some are in several batches alike.
func (h *hub) days(from, to int) {
	h.t.Helper()
	for day := from; day < to; day++ {
		for range 2 {
			h.next++
			tab := store.NewTable()
			for other := range to {
				g := storetest.NewGenerator(h.next/2*100+uint64(other), storetest.Templates(h.t), 3, storetest.Start.AddDate(0, 0, other))
				storetest.Fill(tab, g, 6)
			}
			for _, host := range []string{"", "web1.example.net"} {
				ev := storetest.Parse(host, "type=USER_TTY msg=audit(1795334400.000:1): a")
				ev.From = &event.Sender{Transport: event.TransportTCP, Addr: event.SenderAddr(storetest.Addr(1))}
				if host == "" {
					ev.Node = store.NodeOf(ev.From)
				}
				tab.Add(host, ev)
			}
			h.must(h.st.Append(h.t.Context(), &store.Batch{ID: h.next, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: h.next * 10}))
		}
	}
}

func (h *hub) compact() (n int) {
	h.t.Helper()
	for ; ; n++ {
		done, err := h.st.Compact(h.t.Context(), store.Compaction{After: -100 * 365 * 24 * time.Hour, Oldest: 400})
		h.must(err)
		if done == nil {
			return n
		}
	}
}

// bundle makes a bundle of all events, at a checkpoint; nil: at one of now.
func (h *hub) bundle(at []byte) string {
	h.t.Helper()
	if at == nil {
		var err error
		at, _, err = h.log.Checkpoint(h.t.Context())
		h.must(err)
	}
	c, last, err := h.log.At(at)
	h.must(err)
	dir := filepath.Join(h.t.TempDir(), "b")
	f, err := NewFolder(dir)
	h.must(err)
	_, err = Make(h.t.Context(), Making{
		Query: &query.Query{}, About: Query{Store: h.st.ID().String(), Words: []string{}, LastBatch: last}, Log: h.log, Checkpoint: at, Size: c.Size,
		Groups: h.st, Signer: h.signer, Send: f.Take,
		Scan: func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
			return store.Scan(ctx, h.st, q, fn)
		},
		Coverage: func(context.Context, []string, int64, int64) ([]byte, error) { return nil, nil },
	})
	h.must(errors.Join(err, f.Finish()))
	return dir
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Events of days that were compacted are proved: alone where they were before, by what was made of their batches else, also where that was made into fewer.
func TestCompacted(t *testing.T) {
	t.Parallel()
	for _, roots := range []bool{false, true} {
		h := newHub(t, roots)
		h.days(0, 3)
		before, _, err := h.log.Checkpoint(t.Context())
		h.must(err)
		old := h.bundle(before)
		check := func(dir string) *Report {
			t.Helper()
			rep, err := Verify(dir, h.keys)
			if err != nil || rep.Unproved != 0 || rep.Proved == 0 {
				t.Fatalf("roots %v: %+v, %v", roots, rep, err)
			}
			return rep
		}
		check(old)
		if n := h.compact(); n < 2 {
			t.Errorf("%d compactions", n)
		}
		now := h.bundle(nil)
		rep := check(now)
		for _, name := range []string{Records, Events} {
			if d := cmp.Diff(read(t, old, name), read(t, now, name)); d != "" {
				t.Errorf("roots %v: %s is another one:\n%.500s", roots, name, d)
			}
		}
		if want := map[bool]int{false: 3, true: 2}[roots]; rep.Query.Format != want {
			t.Errorf("roots %v: a bundle of version %d", roots, rep.Query.Format)
		}
		if want := map[bool]bool{false: true}[roots]; (rep.Compacted > 0) != want {
			t.Errorf("roots %v: %d of %d events as they were written again", roots, rep.Compacted, rep.Proved)
		}
		byHand(t, now, rep)
		again := h.bundle(before)
		if roots { // the same question at the same checkpoint: the same bundle, whatever was compacted
			for _, name := range append(files(plainFormat), Manifest) {
				if d := cmp.Diff(read(t, old, name), read(t, again, name)); d != "" {
					t.Errorf("%s is another one:\n%.500s", name, d)
				}
			}
		} else if rep, err := Verify(again, h.keys); err != nil || rep.Unproved == 0 || !strings.Contains(rep.Query.Why, "written again by compaction after the checkpoint") {
			t.Errorf("%+v, %v", rep, err)
		}
		for range 3 { // parts of the same days, until they are made into fewer
			h.days(0, 4)
			h.must(h.st.Rotate(t.Context()))
			h.compact()
		}
		merged := h.bundle(nil)
		check(merged)
		if !roots && !strings.Contains(read(t, merged, Proofs), `"before":[{"leaf"`) {
			t.Error("nothing was made into fewer")
		}
	}
}

// byHand runs the last step of a bundle's page.
func byHand(t *testing.T, dir string, rep *Report) {
	t.Helper()
	for _, tool := range []string{"python3", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%s is not here: the steps by hand are not run", tool)
			return
		}
	}
	_, text, _ := strings.Cut(read(t, dir, Readme), "\n```python\n")
	text, _, _ = strings.Cut(text, "\n```")
	cmd := exec.Command("python3", "-c", text)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	want := fmt.Sprintf("%d of %d events are proved\n", rep.Proved-rep.Compacted, rep.Query.Events)
	if rep.Compacted > 0 {
		want += fmt.Sprintf("%d more are said to lie in parts that are proved", rep.Compacted)
	}
	if err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("by hand: %v\n%s, want %s", err, out, want)
	}
}

// proofLines are the proofs of a bundle.
func proofLines(t *testing.T, dir string) (list []*Proof) {
	t.Helper()
	for line := range strings.Lines(read(t, dir, Proofs)) {
		p := &Proof{}
		if err := json.Unmarshal([]byte(line), p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// signAgain writes proofs, and a manifest of what is there with a signature.
func signAgain(t *testing.T, dir, id string, format int, list []*Proof, signer note.Signer) {
	t.Helper()
	if list != nil {
		var b bytes.Buffer
		for _, p := range list {
			line, err := encodeLine(p)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		if err := os.WriteFile(filepath.Join(dir, Proofs), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all []entry
	for _, name := range files(format) {
		b := []byte(read(t, dir, name))
		all = append(all, entry{name, int64(len(b)), sha256.Sum256(b)})
	}
	text, err := sign(manifestText(format, id, all), signer)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, Manifest), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forgedLog is a log in which one leaf, which made a partition, is another one: whoever can write a collector's files can put it there.
type forgedLog struct {
	*seal.Log
	forge func(l *seal.Leaf)
}

func (f *forgedLog) MadeBy(part string) (int64, []byte, error) {
	i, text, err := f.Log.MadeBy(part)
	if err != nil {
		return i, text, err
	}
	l, err := seal.ParseLeaf(text)
	if err == nil {
		f.forge(l)
	}
	return i, l.Encode(), err
}

// Each attack on what is proved by a group that compaction has made is found, though the collector's own key signs the bundle.
func TestCompactedAttacks(t *testing.T) {
	t.Parallel()
	h := newHub(t, false)
	h.days(0, 3)
	h.compact()
	dir := h.bundle(nil)
	id := h.st.ID().String()
	other := newHub(t, false)
	leaf := func(text string) *seal.Leaf {
		b, err := base64.StdEncoding.DecodeString(text)
		h.must(err)
		l, err := seal.ParseLeaf(b)
		h.must(err)
		return l
	}
	// logged puts other leaves into the log in their place: what is signed then is a checkpoint of these.
	relog := func(t *testing.T, dir string, list []*Proof, change func(l *seal.Leaf)) {
		t.Helper()
		texts := map[int64][]byte{}
		size := h.st.Seals().Size()
		for i := range size {
			text, err := h.st.Seals().Text(i)
			h.must(err)
			texts[i] = text
		}
		for _, p := range list {
			if p.Made != nil {
				l := leaf(p.Leaf)
				change(l)
				texts[p.Index] = l.Encode()
			}
		}
		relogged(t, dir, h, list, texts)
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string, list []*Proof) []*Proof
		want string
	}{
		{"as it is", func(_ *testing.T, _ string, l []*Proof) []*Proof { return l }, ""},
		{"relogged as it is", func(t *testing.T, dir string, l []*Proof) []*Proof { relog(t, dir, l, func(*seal.Leaf) {}); return l }, ""},
		{"a leaf that nobody vouches for", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { l.Voucher = seal.Voucher{} })
			return l
		}, "not signed by the key"},
		{"a leaf that another key vouches for", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { h.must(l.Vouch(other.signer)) })
			return l
		}, "not signed by the key"},
		{"a leaf sealed as it was found", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { l.Flags = seal.Found; h.must(l.Vouch(h.signer)) })
			return l
		}, "not signed by the key"},
		{"a leaf that claims another partition's batches", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { l.Sources[0].Part = "2026-12-24"; h.must(l.Vouch(h.signer)) })
			return l
		}, "the group was not made of that"},
		{"a leaf of fewer batches", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { l.Sources[0].Last = l.Sources[0].First; h.must(l.Vouch(h.signer)) })
			return l
		}, "the group was not made of that"},
		{"a leaf of more events", func(t *testing.T, dir string, l []*Proof) []*Proof {
			relog(t, dir, l, func(l *seal.Leaf) { l.Made[0].Groups[0].Events++; h.must(l.Vouch(h.signer)) })
			return l
		}, "were said"},
		{"another leaf", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, b := made(l)
			l[a].Leaf, l[a].Index, l[a].Path = l[b].Leaf, l[b].Index, l[b].Path
			return l
		}, "its leaf says nothing of that group"},
		{"a batch's leaf in its place", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			b := l[a].Batches[0]
			l[a].Leaf, l[a].Index, l[a].Path = b.Leaf, b.Index, b.Path
			return l
		}, "its leaf is of the kind batch"},
		{"another group", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Made.Group = 2; return l }, "its leaf says nothing of that group"},
		{"group 0", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Made.Group = 0; return l }, "its leaf says nothing of that group"},
		{"no leaf of a batch", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			l[a].Batches = l[a].Batches[1:]
			return l
		}, "it has leaves of"},
		{"no leaves of batches", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Batches = nil; return l }, "it has leaves of"},
		{"a leaf of a batch twice", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			l[a].Batches = append(l[a].Batches[:1:1], l[a].Batches...)
			return l
		}, "a leaf of batch"},
		{"what was made before is nothing of it", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, b := made(l)
			l[max(a, b)].Before = []LoggedLeaf{{l[min(a, b)].Leaf, l[min(a, b)].Index, l[min(a, b)].Path}}
			return l
		}, "what was made before is not what it was made of"},
		{"pieces exchanged", func(t *testing.T, dir string, l []*Proof) []*Proof {
			b := []byte(read(t, dir, Pieces))
			a, _ := made(l)
			x := l[a].Pieces[2]
			b[x[1]+x[2]/2] ^= 1
			h.must(os.WriteFile(filepath.Join(dir, Pieces), b, 0o600))
			return l
		}, ""},
		{"an event elsewhere", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			e := l[a].Events
			e[len(e)-1][1]++
			return l
		}, ""},
		{"events of two lines exchanged", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, b := made(l)
			l[a].Events[0][0], l[b].Events[0][0] = l[b].Events[0][0], l[a].Events[0][0]
			return l
		}, "a record of lines"},
		{"an event twice", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			l[a].Events[1][0] = l[a].Events[0][0]
			return l
		}, "an earlier line is, too"},
		{"an event left out", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			l[a].Events = l[a].Events[1:]
			return l
		}, "has nothing of batch"},
		{"an event beyond the last", func(_ *testing.T, _ string, l []*Proof) []*Proof {
			a, _ := made(l)
			l[a].Events[0][0] = 1 << 40
			return l
		}, "it is about an event"},
		{"a batch, too", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Batch = 1; return l }, "about a batch and a group"},
		{"neither a batch nor a group", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Made = nil; return l }, "about neither"},
		{"no pieces", func(_ *testing.T, _ string, l []*Proof) []*Proof { a, _ := made(l); l[a].Pieces = nil; return l }, ""},
		{"of another batch", func(t *testing.T, dir string, l []*Proof) []*Proof { // both batches have the event, and one of them one more of it
			text := read(t, dir, Events)
			i := strings.Index(text, `"batch":1,`)
			h.must(os.WriteFile(filepath.Join(dir, Events), []byte(text[:i]+`"batch":2,`+text[i+len(`"batch":1,`):]), 0o600))
			return l
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "b")
			if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			signAgain(t, bad, id, Format, c.do(t, bad, proofLines(t, bad)), h.signer)
			rep, err := Verify(bad, h.keys)
			if strings.HasSuffix(c.name, "as it is") {
				if err != nil || rep.Unproved > 0 {
					t.Fatalf("%+v, %v", rep, err)
				}
				return
			}
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q; %d proved", err, c.want, rep.Proved)
			}
		})
	}
	t.Run("of version 2", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "b")
		h.must(os.CopyFS(bad, os.DirFS(dir)))
		h.must(os.WriteFile(filepath.Join(bad, QueryFile), []byte(strings.Replace(read(t, bad, QueryFile), `"format": 3`, `"format": 2`, 1)), 0o600))
		signAgain(t, bad, id, plainFormat, nil, h.signer)
		if _, err := Verify(bad, h.keys); !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
	})
	// What a collector finds in its log and nobody vouches for proves nothing, and is said not to.
	t.Run("made of a log like that", func(t *testing.T) {
		at, c, err := h.log.Checkpoint(t.Context())
		h.must(err)
		for what, forge := range map[string]func(l *seal.Leaf){
			"had no key":           func(l *seal.Leaf) { l.Voucher = seal.Voucher{} },
			"sealed as it was":     func(l *seal.Leaf) { l.Flags = seal.Found },
			"CHANGED since it was": func(l *seal.Leaf) { l.Made[0].Groups[0].Hash[3] ^= 1 },
		} {
			dir := filepath.Join(t.TempDir(), "b")
			f, err := NewFolder(dir)
			h.must(err)
			about, err := Make(t.Context(), Making{
				Query: &query.Query{}, About: Query{Store: id, Words: []string{}, LastBatch: h.next}, Log: &forgedLog{h.log, forge}, Checkpoint: at, Size: c.Size,
				Groups: h.st, Signer: h.signer, Send: f.Take,
				Scan: func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
					return store.Scan(ctx, h.st, q, fn)
				},
				Coverage: func(context.Context, []string, int64, int64) ([]byte, error) { return nil, nil },
			})
			h.must(errors.Join(err, f.Finish()))
			if about.Unproved == 0 || !strings.Contains(read(t, dir, Proofs), what) {
				t.Errorf("%s: %d not proved: %s", what, about.Unproved, about.Why)
			}
			if rep, err := Verify(dir, h.keys); about.Proved == 40 && (err != nil || rep.Unproved != about.Unproved) { // else leaves that are not in the log are in it
				t.Errorf("%s: %+v, %v", what, rep, err)
			}
		}
	})
}

// made returns which two lines are of groups that compaction has made.
func made(list []*Proof) (a, b int) {
	a = slices.IndexFunc(list, func(p *Proof) bool { return p.Made != nil && len(p.Events) > 2 })
	for i, p := range list {
		if p.Made != nil && p.Index != list[a].Index {
			b = i
		}
	}
	return a, b
}

// relogged puts a checkpoint of other leaves into a bundle, and into its proofs what leads to them.
func relogged(t *testing.T, dir string, h *hub, list []*Proof, texts map[int64][]byte) {
	t.Helper()
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	size := int64(len(texts))
	for i := range size {
		more, err := tlog.StoredHashes(i, texts[i], read)
		h.must(err)
		hashes = append(hashes, more...)
	}
	path := func(i int64) (out []string) {
		proof, err := tlog.ProveRecord(size, i, read)
		h.must(err)
		for _, x := range proof {
			out = append(out, hexOf(x))
		}
		return out
	}
	for _, p := range list {
		p.Leaf, p.Path = base64.StdEncoding.EncodeToString(texts[p.Index]), path(p.Index)
		for i := range p.Batches {
			p.Batches[i].Path = path(p.Batches[i].Index)
		}
	}
	root, err := tlog.TreeHash(size, read)
	h.must(err)
	_, c := h.log.Latest()
	c.Size, c.Root = size, root
	h.must(os.WriteFile(filepath.Join(dir, Checkpoint), signedCheckpoint(t, c, h.signer), 0o600))
}

func hexOf(h tlog.Hash) string { return hex.EncodeToString(h[:]) }

func signedCheckpoint(t *testing.T, c checkpoint.Checkpoint, signer note.Signer) []byte {
	t.Helper()
	b, err := checkpoint.Sign(c, signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
