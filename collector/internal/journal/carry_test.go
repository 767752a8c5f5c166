package journal

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// keeper is a store in the model, and its sender: some records' events stay open for
// long, all others are stored with the next batch.
type keeper struct {
	lsn    uint64            // the committed state
	open   []uint64          // likewise
	stored map[string]int    // records in the store
	acked  map[string]bool   // done(nil) was called
	names  map[uint64]string // by LSN, of what was taken and not stored
	last   uint64            // taken
	next   uint32
	conn   uint64
}

func newKeeper() *keeper {
	return &keeper{stored: map[string]int{}, acked: map[string]bool{}, names: map[uint64]string{}, next: 1}
}

// staysOpen says of a record whether its event is open until half.
func staysOpen(name string, half bool) bool {
	var n int
	_, _ = fmt.Sscanf(name, "record %d", &n)
	return n%10 == 3 && (!half || n%20 == 3)
}

// put sends one record over a new connection, the size of a real one.
func (k *keeper) put(t *testing.T, j *Journal) bool {
	k.conn++
	name := fmt.Sprintf("record %d %0300d", k.next, 0)
	b := &Batch{Conn: k.conn, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: []Record{own(k.next, name)}}
	if put(t, j, b) != nil {
		return false
	}
	k.acked[name] = true
	k.next++
	if len(b.Records) == 1 {
		k.names[b.First] = name
	}
	k.last = max(k.last, b.Last())
	return true
}

// commit stores what is complete, as the head does, and trims.
func (k *keeper) commit(j *Journal, half bool) error {
	if err := j.Sync(); err != nil {
		return err
	}
	k.open = k.open[:0]
	for lsn, name := range k.names {
		if staysOpen(name, half) {
			k.open = append(k.open, lsn)
			continue
		}
		k.stored[name]++
		delete(k.names, lsn)
	}
	slices.Sort(k.open)
	k.lsn = k.last
	return j.Trim(k.lsn, k.open)
}

// restart opens the journal again, takes what it replays as the head does, and
// compares. Everything acknowledged is in the store or replayed, once, in order.
func (k *keeper) restart(t *testing.T, fs *faultfs.FS, why string) *Journal {
	t.Helper()
	o := Options{FS: fs, Dir: "/j", SegmentBytes: 8192}
	wanted := map[uint64]bool{}
	for _, lsn := range k.open {
		wanted[lsn] = true
	}
	taken := map[uint64]string{}
	take := func(b *Batch) error {
		for i, r := range b.Records {
			lsn := b.First + uint64(i)
			if lsn > k.lsn || wanted[lsn] {
				if taken[lsn] != "" {
					t.Errorf("%s: LSN %d is replayed twice", why, lsn)
				}
				for other := range taken {
					if other > lsn {
						t.Errorf("%s: LSN %d is replayed after %d", why, lsn, other)
						break
					}
				}
				taken[lsn] = string(r.Raw)
				if b.Sender != from(addr(1)) || !b.Received.Equal(time.Unix(1, 0)) {
					t.Errorf("%s: LSN %d came from %v at %v", why, lsn, b.Sender, b.Received)
				}
			}
		}
		return nil
	}
	check := func(how string) {
		t.Helper()
		count := map[string]int{}
		for _, name := range taken {
			count[name]++
		}
		for name := range k.acked {
			if n := count[name] + k.stored[name]; n != 1 {
				t.Errorf("%s: %s: %.20q is there %d times", why, how, name, n)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if _, err := ReadOnly(o, Place{k.lsn, k.open}, take); err != nil {
		t.Fatalf("%s: %v", why, err)
	}
	check("read only")
	clear(taken)
	j, _, err := Open(o)
	if err != nil {
		t.Fatalf("%s: open again: %v", why, err)
	}
	if err := j.Start(Resume{Place: Place{LSN: k.lsn, Open: k.open}}, take); err != nil {
		t.Fatalf("%s: replay: %v", why, err)
	}
	check("replay")
	k.names = taken
	for lsn := range taken {
		k.last = max(k.last, lsn)
	}
	return j
}

// run puts and commits until something fails; true when nothing did.
func (k *keeper) run(t *testing.T, j *Journal, rounds int, most int64) (carried uint64, ok bool) {
	for round := range rounds {
		for range 12 {
			if !k.put(t, j) {
				return j.Stats().Carried, false
			}
		}
		if k.commit(j, round > rounds/2) != nil {
			return j.Stats().Carried, false
		}
		if size := j.Stats().DiskBytes; size > most {
			t.Fatalf("round %d: the journal has %d bytes, %d is the most; %d records are open", round, size, most, len(k.open))
		}
	}
	return j.Stats().Carried, true
}

// openBytes is what the model's open records take in the journal, and keeping them
// takes: the segments they lie in, one that is being carried, one that is written.
const openBytes = (5 + carrySegments) * 8192

// TestOpenRecordsAreCarried keeps events open while a hundred segments pass by.
func TestOpenRecordsAreCarried(t *testing.T) {
	t.Parallel()
	fs, k := faultfs.New(1), newKeeper()
	j := k.restart(t, fs, "new")
	rounds := 100
	for part := range 4 {
		// Open at the end of a part: one of ten, then one of twenty of all records.
		most := openBytes + 2*int64(part+1)*int64(rounds)*12/10*400
		carried, ok := k.run(t, j, rounds, most)
		if !ok || carried < 20 {
			t.Fatalf("part %d: %v, %d records were carried", part, ok, carried)
		}
		t.Logf("part %d: journal %d bytes, at most %d; %d records open, %d carried", part, j.Stats().DiskBytes, most, len(k.open), carried)
		if part%2 == 1 {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			fs.Kill()
			_ = j.Close() // its handles are gone
		}
		j = k.restart(t, fs, fmt.Sprint("part ", part))
	}
	// When all are complete, nothing keeps the journal.
	for lsn := range k.names {
		k.stored[k.names[lsn]]++
		delete(k.names, lsn)
	}
	if err := k.commit(j, false); err != nil {
		t.Fatal(err)
	}
	if size := j.Stats().DiskBytes; size > 2*8192 {
		t.Errorf("nothing is open, %d bytes are left", size)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCarryPowerCut cuts the power at every changing operation, those of carrying and
// trimming among them, and goes on after it.
func TestCarryPowerCut(t *testing.T) {
	t.Parallel()
	step := need.Size(3, 11)
	cuts, carried := 0, uint64(0)
	for n := 1; ; n += step {
		fs, k := faultfs.New(int64(n)), newKeeper()
		j := k.restart(t, fs, "new")
		fs.CutPower(n)
		c, ok := k.run(t, j, 12, 1<<20)
		carried += c
		fs.Crash()
		_ = j.Close() // the machine is gone
		j = k.restart(t, fs, fmt.Sprintf("power cut at change %d", n))
		if _, again := k.run(t, j, 6, 1<<20); !again {
			t.Fatalf("power cut at change %d: the journal does not go on", n)
		}
		fs.Kill()
		_ = j.Close() // its handles are gone
		if err := k.restart(t, fs, fmt.Sprintf("killed after the power cut at %d", n)).Close(); err != nil {
			t.Fatal(err)
		}
		if ok {
			break
		}
		cuts++
	}
	t.Logf("%d power cuts, %d records carried", cuts, carried)
	if cuts < 20 || carried < 100 {
		t.Errorf("%d power cuts and %d records carried show nothing", cuts, carried)
	}
}

// TestCarryFails has each kind of operation fail while records are carried: nothing
// is trimmed then that is needed, and a later trim gets it done.
func TestCarryFails(t *testing.T) {
	t.Parallel()
	failures, heard, unheard := 0, 0, 0
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync, faultfs.Rename, faultfs.Allocate, faultfs.Create, faultfs.SyncDir} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for n := 1; ; n++ {
				why := fmt.Sprintf("%s %d: %v", op, n, cause)
				fs, k := faultfs.New(int64(n)), newKeeper()
				j := k.restart(t, fs, "new")
				for range 60 {
					if !k.put(t, j) {
						t.Fatal(why)
					}
				}
				before := fs.Count(op)
				fs.FailRange(op, n, n, cause)
				first := k.commit(j, false)
				reached := fs.Count(op)-before >= n
				fs.Heal()
				if reached {
					failures++
				}
				if reached && op == faultfs.Write && errors.Is(cause, syscall.ENOSPC) {
					if first == nil {
						unheard++
					} else {
						heard++
					}
				}
				fs.Kill()
				_ = j.Close() // its handles are gone
				if err := k.restart(t, fs, why).Close(); err != nil {
					t.Fatal(err)
				}
				if !reached {
					break
				}
			}
		}
	}
	t.Logf("%d failures", failures)
	if unheard > heard { // nobody needs the zeroes behind what is written
		t.Errorf("of %d writes that failed nobody hears, of %d somebody does", unheard, heard)
	}
	if failures < 10 {
		t.Errorf("only %d operations were made to fail", failures)
	}
}
