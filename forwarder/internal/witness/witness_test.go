package witness

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	store1 = "00112233445566778899aabbccddeeff"
	store2 = "ffeeddccbbaa99887766554433221100"
)

// fakeLog is a collector's log.
type fakeLog struct {
	t      *testing.T
	signer note.Signer
	public string
	store  string
	hashes []tlog.Hash
	size   int64
	epoch  int64
}

func newLog(t *testing.T, name, store string) *fakeLog {
	t.Helper()
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.ReadSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeLog{t: t, signer: signer, public: public, store: store}
}

// copied is a copy of it, which goes on by itself.
func (l *fakeLog) copied() *fakeLog {
	c := *l
	c.hashes = append([]tlog.Hash(nil), l.hashes...)
	return &c
}

func (l *fakeLog) read(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, n := range at {
		out[i] = l.hashes[n]
	}
	return out, nil
}

func (l *fakeLog) grow(n int, what string) *fakeLog {
	l.t.Helper()
	for range n {
		hashes, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", what, l.size), tlog.HashReaderFunc(l.read))
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
		l.size++
	}
	return l
}

func (l *fakeLog) sign(at time.Time) []byte {
	l.t.Helper()
	root, err := tlog.TreeHash(l.size, tlog.HashReaderFunc(l.read))
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: l.signer.Name(), Size: l.size, Root: root, Time: at, Store: l.store, Epoch: l.epoch}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}

func (l *fakeLog) prove(from, to uint64) (hashes [][]byte) {
	l.t.Helper()
	proof, err := tlog.ProveTree(int64(to), int64(from), tlog.HashReaderFunc(l.read))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, h := range proof {
		hashes = append(hashes, h[:])
	}
	return hashes
}

// rig is a keeper with a clock.
type rig struct {
	*testing.T
	spool, keys string
	now         time.Time
	k           *Keeper
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, spool: t.TempDir(), now: time.Unix(1763805600, 0)}
	r.open()
	return r
}

func (r *rig) open() {
	r.Helper()
	var err error
	if r.k, err = New(Config{Spool: r.spool, Keys: r.keys, Now: func() time.Time { return r.now }}); err != nil {
		r.Fatal(err)
	}
	r.k.Load()
}

// session is a connection to a server whose store the log is.
func (r *rig) session(server string, l *fakeLog) *Session {
	r.Helper()
	s := r.k.Session(server)
	id, err := hex.DecodeString(l.store)
	if err != nil {
		r.Fatal(err)
	}
	s.Opened(id)
	return s
}

// gets hands over the newest checkpoint, and the proofs that are asked for.
func (r *rig) gets(s *Session, l *fakeLog) {
	r.Helper()
	r.now = r.now.Add(10 * time.Second)
	for from, to := s.Checkpoint(l.sign(r.now), l.public); to > 0; {
		from, to = s.Proof(from, to, l.prove(from, to))
	}
}

// found checks what was found since the last time, and that it is said.
func (r *rig) found(want ...string) {
	r.Helper()
	r.now = r.now.Add(2 * sayEvery)
	var got []string
	for _, s := range r.k.Statements() {
		got = append(got, strings.TrimPrefix(strings.Fields(s.Words)[0], "op="))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		r.Errorf("found %q, want %q", got, want)
	}
}

func TestGoesOn(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(7, "a")
	s := r.session("hub1:6060", l)
	r.gets(s, l)
	for n := range 5 {
		r.gets(s, l.grow(1+n*13, "a"))
	}
	other := r.session("hub1:6060", l) // a second connection, behind
	r.gets(s, l.grow(5, "a"))
	r.gets(s, l.grow(5, "a"))
	r.gets(other, l)
	r.found()
	if c := r.k.Counts(); c.Verified != 9 || c.Stores != 1 || c.Open != 0 {
		t.Errorf("%+v", c)
	}
	if err := r.k.Close(); err != nil {
		t.Fatal(err)
	}
	k, err := Read(r.spool)
	if err != nil || len(k.Held) != 1 || k.Held[0].Size != l.size || k.Held[0].Given || k.Held[0].Servers[0].Name != "hub1:6060" {
		t.Fatalf("%v %+v", err, k)
	}
	r.open()
	r.gets(r.session("hub1:6060", l), l.grow(3, "a"))
	r.found()
}

// What a collector may do to its log, and what its hosts find. After that what it says is gone by.
func TestFound(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(l *fakeLog) *fakeLog
		want string
	}{
		{"an older store is put back", func(l *fakeLog) *fakeLog { return newLog0(l).grow(60, "a") }, Rewind},
		{"an older store is put back and grows beyond", func(l *fakeLog) *fakeLog { return newLog0(l).grow(60, "a").grow(60, "b") }, Fork},
		{"a record is changed", func(l *fakeLog) *fakeLog { return newLog0(l).grow(50, "a").grow(1, "x").grow(49, "a") }, Fork},
		{"and more come", func(l *fakeLog) *fakeLog { return newLog0(l).grow(50, "a").grow(1, "x").grow(99, "a") }, Fork},
		{"a record is removed", func(l *fakeLog) *fakeLog { return newLog0(l).grow(99, "a") }, Rewind},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			l := newLog(t, "hub1", store1).grow(100, "a")
			r.gets(r.session("hub1:6060", l), l)
			changed := c.does(l)
			s := r.session("hub1:6060", l)
			r.gets(s, changed)
			r.found(c.want)
			r.gets(s, changed.grow(3, "c"))
			r.gets(r.session("hub1:6060", l), changed.grow(3, "c"))
			r.found()
			if err := r.k.Close(); err != nil {
				t.Fatal(err)
			}
			kept, err := Read(r.spool)
			if err != nil || len(kept.Incidents) != 1 || !kept.Incidents[0].Said {
				t.Fatalf("%v %+v", err, kept)
			}
			was, err := checkpoint.Open(kept.Incidents[0].Held, verifier(t, l))
			if err != nil || was.Size != 100 {
				t.Errorf("the evidence has %+v, %v", was, err)
			}
			if _, err := checkpoint.Open(kept.Incidents[0].Given, verifier(t, l)); err != nil {
				t.Error(err)
			}
			r.open() // it is not said again
			r.gets(r.session("hub1:6060", l), changed.grow(1, "c"))
			r.found()
			if n, err := Accept(r.spool, []string{kept.Incidents[0].ID}, false); err != nil || n != 1 {
				t.Error(n, err)
			}
			if _, wrong, err := Describe(r.spool); err != nil || len(wrong) != 0 {
				t.Error(wrong, err)
			}
		})
	}
}

func newLog0(l *fakeLog) *fakeLog {
	return &fakeLog{t: l.t, signer: l.signer, public: l.public, store: l.store}
}

func verifier(t *testing.T, l *fakeLog) note.Verifiers {
	t.Helper()
	v, err := checkpoint.ReadVerifiers(l.public)
	if err != nil {
		t.Fatal(err)
	}
	return note.VerifierList(v...)
}

// Two copies of one store, each at its own server, and one host that goes from one to the other.
func TestForkBetweenServers(t *testing.T) {
	r := newRig(t)
	a := newLog(t, "hub1", store1).grow(10, "a")
	b := a.copied()
	r.gets(r.session("hub1:6060", a), a)
	r.gets(r.session("hub2:6060", b), b)
	r.found()
	r.gets(r.session("hub1:6060", a), a.grow(5, "a"))
	r.gets(r.session("hub2:6060", b), b.grow(7, "b"))
	r.found(Fork)
}

// A store that is removed, and begun anew with the same key, is the rewind of all.
func TestBegunAnew(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(100, "a")
	r.gets(r.session("hub1:6060", l), l)
	anew := newLog0(l)
	anew.store = store2
	r.gets(r.session("hub1:6060", anew), anew.grow(1, "a"))
	r.found(Rewind)
	r.gets(r.session("hub1:6060", anew), anew.grow(1, "a"))
	r.found()
}

// The examples of FORMAT.md are what is written.
func TestFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile("../../../pkg/checkpoint/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(b []byte, kind string) string {
		_, rest, _ := strings.Cut(string(b), "```"+kind+"\n")
		text, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("no example %s", kind)
		}
		return text
	}
	text, key := []byte(block(signed, "checkpoint")), strings.TrimSpace(block(signed, "key"))
	c, err := checkpoint.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	h := &Held{Checkpoint: c, Text: text, Key: key, Servers: []Server{{"hub1:6060", at}}, First: c.Time, Seen: at}
	i := &Incident{Op: Bad, Server: "hub1:6060", When: at, Said: true, Text: "what it means", Given: text}
	for kind, want := range map[string][]byte{"newest": h.encode(), "incident": i.encode()} {
		if got := block(doc, kind); got != string(want) {
			t.Errorf("the example %s is\n%s, and written is\n%s", kind, got, want)
		}
	}
	if _, err := parseHeld([]byte(block(doc, "newest"))); err != nil {
		t.Error(err)
	}
	if _, err := parseIncident([]byte(block(doc, "incident"))); err != nil {
		t.Error(err)
	}
}

// A restore that was accepted at the collector is said once and is no alarm; a lower epoch is one.
func TestRestored(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(100, "a")
	before := l.copied()
	r.gets(r.session("hub1:6060", l), l)
	other := r.session("hub1:6060", l)
	restored := newLog0(l).grow(60, "a")
	restored.epoch = 1
	r.gets(r.session("hub1:6060", l), restored)
	r.found(Restored)
	if c := r.k.Counts(); c.Open != 0 {
		t.Errorf("%+v", c)
	}
	r.gets(other, restored.grow(1, "c"))
	r.gets(r.session("hub1:6060", l), restored.grow(1, "c"))
	r.found()
	r.gets(r.session("hub1:6060", l), before.grow(200, "a"))
	r.found(Rewind)
}

// A replayed checkpoint, on the same connection and on another one.
func TestReplay(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(10, "a")
	old := l.sign(r.now)
	s := r.session("hub1:6060", l)
	s.Checkpoint(old, l.public)
	r.gets(s, l.grow(5, "a"))
	s.Checkpoint(old, l.public)
	r.found(Rewind)
	r.gets(s, l)
	r.session("hub1:6060", l).Checkpoint(old, l.public)
	r.now = r.now.Add(time.Hour)
	if n := r.k.Counts().Alarms[Rewind]; n != 2 {
		t.Errorf("%d found", n)
	}
}

func TestKeys(t *testing.T) {
	r := newRig(t)
	l, other := newLog(t, "hub1", store1).grow(10, "a"), newLog(t, "hub1", store1)
	forged := l.copied()
	forged.signer, forged.public = other.signer, other.public
	r.gets(r.session("hub1:6060", l), l)
	r.gets(r.session("hub1:6060", l), forged.grow(2, "a"))
	r.found(Key)
	r.gets(r.session("hub1:6060", l), forged.grow(2, "a"))
	r.found() // gone by since

	// Another store at the server, with another key; then one with the same key.
	fresh := newLog(t, "hub1", store2).grow(1, "z")
	r.gets(r.session("hub1:6060", fresh), fresh)
	r.found(Key, Store)

	// With given keys another one is never gone by.
	r.keys = filepath.Join(t.TempDir(), "keys")
	writeKeys(t, r.keys, "# of hub1\n"+l.public+"\n")
	r.spool = t.TempDir()
	r.open()
	r.gets(r.session("hub1:6060", l), l)
	for range 3 {
		r.gets(r.session("hub1:6060", forged), forged.grow(1, "a"))
	}
	r.found(Key)
	if h := r.k.heldOf(store1); h.Key != l.public || !h.Given || h.Size != l.size {
		t.Errorf("%+v", h)
	}
	// Both are named, and the file is read again: no more alarm.
	writeKeys(t, r.keys, l.public+"\n"+other.public+"\n")
	r.gets(r.session("hub1:6060", forged), forged.grow(1, "a"))
	r.found()
	if h := r.k.heldOf(store1); h.Key != other.public || h.Size != forged.size {
		t.Errorf("%+v", h)
	}
	writeKeys(t, r.keys, "nonsense\n")
	if err := r.k.Reload(); err == nil {
		t.Error("nonsense is taken for keys")
	}
	if _, err := New(Config{Spool: r.spool, Keys: r.keys + "x"}); err == nil {
		t.Error("no file is taken for keys")
	}
}

func writeKeys(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is not as it has to be is said, changes nothing, and costs little.
func TestHostile(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(10, "a")
	good := l.sign(r.now)
	r.gets(r.session("hub1:6060", l), l)
	huge := append(bytes.Clone(good), bytes.Repeat([]byte("x"), maxText)...)
	for name, text := range map[string][]byte{
		"tampered": bytes.Replace(good, []byte("\n10\n"), []byte("\n11\n"), 1), "huge": huge, "empty": nil, "cut": good[:len(good)/2], "noise": []byte(strings.Repeat("\x00\xff\n", 100)),
	} {
		r.now = r.now.Add(10 * time.Second)
		if from, to := r.session("evil-"+name, l).Checkpoint(text, l.public); from != 0 || to != 0 {
			t.Errorf("%s: asks from %d to %d", name, from, to)
		}
	}
	r.session("evil-key", l).Checkpoint(good, strings.Repeat("k", 1000))
	for _, key := range []string{"\n\n", "\n# x\n\n# x", "\r\n"} { // would end the head of the file
		fresh := newLog(t, "hub9", strings.Repeat("9", 32)).grow(1, "a")
		r.session("evil-lines", fresh).Checkpoint(fresh.sign(r.now), fresh.public+key)
		if r.k.heldOf(fresh.store) != nil {
			t.Errorf("the key with %q is kept", key)
		}
	}
	r.session("evil-store", newLog(t, "x", store2)).Checkpoint(l.grow(1, "a").sign(r.now), l.public)
	s := r.session("evil-proof", l)
	from, to := s.Checkpoint(l.sign(r.now), l.public)
	if to == 0 {
		t.Fatal("asks for no proof")
	}
	s.Proof(from, to+1, nil) // not asked for
	s.Proof(from, to, make([][]byte, 1000))
	_, to = r.session("evil-none", l).Checkpoint(l.sign(r.now), l.public)
	if to == 0 {
		t.Fatal("asks for no proof")
	}
	r.found(Bad)
	if h := r.k.heldOf(store1); h.Size != 10 {
		t.Errorf("%+v", h)
	}

	// A flood of checkpoints: most are not looked at.
	s = r.session("evil-flood", l)
	for n := range 1000 {
		s.Checkpoint(fmt.Appendf(nil, "%d", n), l.public)
	}
	if c := r.k.Counts(); c.Passed != 1000-lookBurst {
		t.Errorf("%+v", c)
	}
	// A flood of stores and of findings: what is kept is bounded.
	for n := range 90 {
		r.now = r.now.Add(time.Minute)
		x := newLog(t, "hub1", fmt.Sprintf("%032x", n)).grow(1, "a")
		r.gets(r.session(fmt.Sprintf("evil-%d", n), x), x)
		r.session(fmt.Sprintf("evil-%d", n), x).Checkpoint([]byte("x"), "")
		if n%10 == 0 {
			r.k.Statements()
			if !r.k.flush() {
				t.Fatal("not saved")
			}
		}
	}
	if err := r.k.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := Read(r.spool)
	if err != nil || len(kept.Held) > maxStores || len(kept.Incidents) > maxIncidents || len(kept.Damaged) > 0 {
		t.Errorf("%v: %d stores, %d findings, damaged %q", err, len(kept.Held), len(kept.Incidents), kept.Damaged)
	}
}

func TestDays(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(1, "a")
	for range 5 {
		r.gets(r.session("hub1:6060", l), l.grow(1, "a"))
		r.gets(r.session("hub1:6060", l), l.grow(1, "a"))
		if !r.k.flush() {
			t.Fatal("not saved")
		}
		r.now = r.now.Add(24 * time.Hour)
	}
	days, err := Days(r.spool, store1)
	if err != nil || len(days) != 4 {
		t.Fatalf("%d days, %v", len(days), err)
	}
	for n, d := range days {
		if c, err := checkpoint.Open(d.Text, verifier(t, l)); err != nil || c.Size != int64(3+2*n) || c.Time.Format(time.DateOnly) != d.Day {
			t.Errorf("%s: %+v, %v", d.Day, c, err)
		}
	}
	var many []Day
	for n := range 2 * maxDays {
		many = append(many, Day{fmt.Sprint(n), []byte("x")})
	}
	if b := encodeDays(many); bytes.Count(b, []byte("\n")) != maxDays+1 {
		t.Errorf("%d lines", bytes.Count(b, []byte("\n")))
	}
}

// What a file says is what was kept, a damaged one is set aside, and a full or missing folder loses
// nothing that is in memory.
func TestFiles(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(10, "a")
	r.gets(r.session("hub1:6060", l), l)
	if err := os.RemoveAll(r.spool); err != nil {
		t.Fatal(err)
	}
	if r.k.flush() {
		t.Error("saved nowhere")
	}
	if err := os.Mkdir(r.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.k.Close(); err != nil {
		t.Error(err)
	}
	path := filepath.Join(r.spool, Dir, store1+heldSuffix)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range b {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if _, err := parseHeld(bad); err == nil {
			t.Fatalf("a file with another byte %d is read", at)
		}
		if _, err := parseHeld(b[:at]); err == nil {
			t.Fatalf("a file of %d bytes is read", at)
		}
	}
	if err := os.WriteFile(path, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	if r.k.heldOf(store1) != nil {
		t.Error("what is damaged is gone by")
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	days := filepath.Join(r.spool, Dir, store1+daysSuffix)
	if err := os.WriteFile(days, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{days + ".damaged", ""} {
		if aside, err := addDay(filepath.Join(r.spool, Dir), store1, Day{fmt.Sprint(n), []byte("x")}); err != nil || aside != want {
			t.Errorf("a day: set aside %q, %v", aside, err)
		}
	}
	if b, err := os.ReadFile(days + ".damaged"); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

// An administrator accepts a finding by command while it is being saved again.
func TestAcceptedMeanwhile(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(100, "a")
	r.gets(r.session("hub1:6060", l), l)
	r.gets(r.session("hub1:6060", l), newLog0(l).grow(60, "a"))
	if !r.k.flush() {
		t.Fatal("not saved")
	}
	if n, err := Accept(r.spool, nil, true); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	r.k.Statements() // which is to be saved
	var others sync.WaitGroup
	others.Go(func() { r.k.Counts() })
	if !r.k.flush() {
		t.Error("not saved")
	}
	others.Wait()
	kept, err := Read(r.spool)
	if err != nil || len(kept.Incidents) != 1 || !kept.Incidents[0].Accepted || !kept.Incidents[0].Said {
		t.Errorf("%v %+v", err, kept)
	}
	if c := r.k.Counts(); c.Open != 0 {
		t.Errorf("%d are open", c.Open)
	}
}

func TestClock(t *testing.T) {
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(10, "a")
	s := r.session("hub1:6060", l)
	r.gets(s, l)
	from, to := s.Checkpoint(l.grow(1, "a").sign(r.now.Add(-time.Hour)), l.public)
	s.Proof(from, to, l.prove(from, to))
	r.found(Clock)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(heldMagic + "00000000\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseHeld(b)
		_, _ = parseIncident(b)
	})
}

// TestSilent: a collector that signed before and signs no more, or proves nothing, is said; one that has nothing to sign
// is not, nor is one that never signed.
func TestSilent(t *testing.T) {
	acks := func(r *rig, s *Session, d, every time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(every) {
			s.Acked()
		}
	}
	r := newRig(t)
	l := newLog(t, "hub1", store1).grow(7, "a")
	s := r.session("hub1:6060", l)
	acks(r, s, 3*time.Hour, time.Minute) // never signed
	r.found()
	r.gets(s, l)
	acks(r, s, 50*time.Minute, time.Minute)
	r.gets(s, l.grow(1, "a"))
	acks(r, s, 50*time.Minute, time.Minute)
	r.found()
	acks(r, s, 3*time.Hour, 20*time.Minute) // hardly any records
	r.found()
	for range 3 { // over new connections, with signed words that are not proved
		s = r.session("hub1:6060", l)
		s.Checkpoint(l.grow(1, "a").sign(r.now), l.public)
		acks(r, s, 25*time.Minute, time.Minute)
	}
	r.found(Bad)
	acks(r, s, 3*time.Hour, time.Minute)
	r.found()
	acks(r, s, 24*time.Hour, time.Minute)
	r.found(Bad)
	r.gets(s, l)
	acks(r, s, 30*time.Minute, time.Minute)
	r.found()
}
