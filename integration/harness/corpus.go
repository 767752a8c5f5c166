package harness

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// The recordings TestRecord made on Linux 6.18 with auditd 3.0.9.
//
//go:embed testdata/real-RAW.log
var recordedRaw []byte

//go:embed testdata/real-ENRICHED.log
var recordedEnriched []byte

// RecordedRaw returns a real log of some hundred events in the raw format. The caller
// must not change its bytes.
func RecordedRaw() []byte { return recordedRaw }

// RecordedEnriched returns a real log in the enriched format. The caller must not change
// its bytes.
func RecordedEnriched() []byte { return recordedEnriched }

// Corpus generates logs of any size from the events of a recording. Each event that it
// writes is a recorded one in which the values that differ between runs of the same
// program are drawn again: time, serial, processes, pointers, inodes, names of files, and
// sometimes key and program.
type Corpus struct {
	events []eventTemplate
}

type eventTemplate []lineTemplate

// lineTemplate is a line cut where something is put in: text[0] put[0] text[1] …
type lineTemplate struct {
	text [][]byte
	put  []slot
}

type slot struct {
	kind slotKind
	was  []byte // what the recording had there
}

type slotKind uint8

const (
	slotStamp   slotKind = iota // 1795337601.846:2616
	slotPID                     // pid= and ppid=
	slotPointer                 // a0= … a3= that are addresses
	slotInode
	slotName // a file's name, in quotes
	slotExe  // in quotes
	slotKey  // in quotes
)

// Make says which log to write.
type Make struct {
	Seed      uint64
	Records   int       // stop after the event that reaches it; 0 is no limit
	Bytes     int64     // likewise
	Nodes     []string  // node= names, each event on one of them; none leaves it out
	Start     time.Time // of the first event
	Step      time.Duration
	RareKey   string // put as the key of every RareEvery-th event that has a key
	RareEvery int
	Straight  bool // whole events one after another; otherwise some are interleaved, as in real logs
}

// Made says what was written.
type Made struct {
	Bytes   int64
	Records int
	Events  int
	Rare    int // events with RareKey
	Last    time.Time
}

// ParseCorpus splits a recording into templates.
func ParseCorpus(log []byte) (*Corpus, error) {
	c := &Corpus{}
	place := map[string]int{}
	for n, line := range bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n")) {
		at := stamp(string(line))
		if at == "" {
			return nil, fmt.Errorf("line %d of the recording is no audit record: %.80q", n+1, line)
		}
		i, ok := place[at]
		if !ok {
			i = len(c.events)
			place[at] = i
			c.events = append(c.events, nil)
		}
		c.events[i] = append(c.events[i], parseLine(line))
	}
	return c, nil
}

// fieldSlots are the fields that get a value of their own, by the text before it.
var fieldSlots = []struct {
	before string
	kind   slotKind
	quoted bool
}{
	{"msg=audit(", slotStamp, false},
	{" ppid=", slotPID, false},
	{" pid=", slotPID, false},
	{" a0=", slotPointer, false},
	{" a1=", slotPointer, false},
	{" a2=", slotPointer, false},
	{" a3=", slotPointer, false},
	{" inode=", slotInode, false},
	{` name="`, slotName, true},
	{` exe="`, slotExe, true},
	{` key="`, slotKey, true},
}

func parseLine(line []byte) lineTemplate {
	var t lineTemplate
	rest := line
	for {
		best, which, end := -1, slotStamp, 0
		for _, f := range fieldSlots {
			i := bytes.Index(rest, []byte(f.before))
			if i < 0 {
				continue
			}
			i += len(f.before)
			if best >= 0 && i >= best {
				continue
			}
			stop := " )\x1d"
			if f.quoted {
				stop = `"`
			}
			j := bytes.IndexAny(rest[i:], stop)
			if j < 0 {
				j = len(rest) - i
			}
			best, which, end = i, f.kind, i+j
		}
		if best < 0 {
			t.text = append(t.text, rest)
			return t
		}
		t.text = append(t.text, rest[:best])
		t.put = append(t.put, slot{which, rest[best:end]})
		rest = rest[end:]
	}
}

// runEvents is how many events follow one another as they were recorded.
const runEvents = 64

// maker holds the state of one call of Write.
type maker struct {
	Make
	rng     *rand.Rand
	now     int64  // ms
	salt    uint64 // of the present run: what was the same in the recording stays the same within a run
	serials []uint64
	keyed   int
	made    Made
}

// Write writes a log. The same Make gives the same bytes.
func (c *Corpus) Write(w io.Writer, m Make) (Made, error) {
	mk := &maker{Make: m, rng: rand.New(rand.NewPCG(m.Seed, 0x61756469)), now: m.Start.UnixMilli()}
	if len(m.Nodes) == 0 {
		mk.Nodes = []string{""}
	}
	mk.serials = make([]uint64, len(mk.Nodes))
	for i := range mk.serials {
		mk.serials[i] = 1000
	}
	var buf []byte
	var held [][]byte
	for i := 0; (m.Records == 0 || mk.made.Records < m.Records) && (m.Bytes == 0 || mk.made.Bytes < m.Bytes); i++ {
		// Runs of the recording's own order, as real logs have runs of one program's events.
		if i%runEvents == 0 {
			i = runEvents * mk.rng.IntN(len(c.events)/runEvents+1)
			mk.salt = mk.rng.Uint64()
		}
		lines := mk.event(c.events[i%len(c.events)])
		switch {
		case held != nil:
			buf = interleave(buf, held, lines)
			held = nil
		case !m.Straight && mk.rng.IntN(32) == 0:
			held = lines
		default:
			buf = interleave(buf, lines, nil)
		}
		if len(buf) > 1<<20 {
			if _, err := w.Write(buf); err != nil {
				return mk.made, err
			}
			buf = buf[:0]
		}
	}
	buf = interleave(buf, held, nil)
	if _, err := w.Write(buf); err != nil {
		return mk.made, err
	}
	mk.made.Last = time.UnixMilli(mk.now)
	return mk.made, nil
}

func interleave(dst []byte, a, b [][]byte) []byte {
	for i := range max(len(a), len(b)) {
		for _, lines := range [][][]byte{a, b} {
			if i < len(lines) {
				dst = append(append(dst, lines[i]...), '\n')
			}
		}
	}
	return dst
}

func (m *maker) event(t eventTemplate) [][]byte {
	if m.Step > 0 {
		m.now += m.rng.Int64N(2*m.Step.Milliseconds() + 1)
	}
	node := m.rng.IntN(len(m.Nodes))
	m.serials[node]++
	at := fmt.Sprintf("%d.%03d:%d", m.now/1000, m.now%1000, m.serials[node])
	variant := m.rng.Uint32()
	rare := m.takeRare(t)
	lines := make([][]byte, 0, len(t))
	for _, l := range t {
		line := make([]byte, 0, 512)
		if m.Nodes[node] != "" {
			line = append(append(append(line, "node="...), m.Nodes[node]...), ' ')
		}
		system := false // the line is about a file of the system, the same in every run
		for i, text := range l.text {
			line = append(line, text...)
			if i == len(l.put) {
				break
			}
			was := l.put[i].was
			switch l.put[i].kind {
			case slotStamp:
				line = append(line, at...)
			case slotPID: // a parent is the pid of another event
				line = strconv.AppendUint(line, 300+m.same(was)%4_000_000, 10)
			case slotPointer:
				line = m.pointer(line, was)
			case slotInode:
				if system {
					line = append(line, was...)
				} else {
					line = strconv.AppendUint(line, 131072+m.same(was)%(1<<24), 10)
				}
			case slotName:
				system = systemFile(was)
				line = fileName(line, was, variant, system)
			case slotExe:
				line = exeName(line, was, variant)
			case slotKey:
				line = keyName(line, was, variant, m.RareKey, rare)
			}
		}
		lines = append(lines, line)
		m.made.Bytes += int64(len(line)) + 1
	}
	m.made.Records += len(lines)
	m.made.Events++
	return lines
}

// takeRare says whether this event gets the rare key.
func (m *maker) takeRare(t eventTemplate) bool {
	if m.RareEvery == 0 {
		return false
	}
	for _, l := range t {
		for _, s := range l.put {
			if s.kind == slotKey {
				if m.keyed++; m.keyed%m.RareEvery == 0 {
					m.made.Rare++
					return true
				}
				return false
			}
		}
	}
	return false
}

// same draws a number that depends on the run and on what the recording had.
func (m *maker) same(was []byte) uint64 {
	h := m.salt
	for _, c := range was {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>32
}

// pointer draws the middle of an address anew, as address space randomisation does.
func (m *maker) pointer(dst, was []byte) []byte {
	from := len(dst)
	dst = append(dst, was...)
	if len(was) < 9 || was[0] == 'f' || was[0] == '"' {
		return dst
	}
	const digits = "0123456789abcdef"
	// Addresses of one page differ in the last digits only.
	r := m.same(was[:len(was)-3])
	for i := 2; i < len(was)-3; i++ {
		dst[from+i] = digits[r&15]
		r >>= 4
	}
	return dst
}

func systemFile(name []byte) bool {
	for _, dir := range []string{"/usr", "/lib", "/etc", "/bin"} {
		if bytes.HasPrefix(name, []byte(dir)) {
			return true
		}
	}
	return len(name) < 3 || name[len(name)-1] == '/'
}

// fileName makes most names of data files differ, and leaves those of the system.
func fileName(dst, was []byte, variant uint32, system bool) []byte {
	dst = append(dst, was...)
	if !system && variant%4 != 0 {
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, uint64(variant%9973), 10)
	}
	return dst
}

// exeName moves one program in eight to one of some hundred other places.
func exeName(dst, was []byte, variant uint32) []byte {
	if variant%8 != 3 {
		return append(dst, was...)
	}
	dst = append(dst, "/opt/app-"...)
	dst = strconv.AppendUint(dst, uint64(variant>>8%400), 10)
	dst = append(dst, "/bin"...)
	return append(dst, was[bytes.LastIndexByte(was, '/'):]...)
}

func keyName(dst, was []byte, variant uint32, rareKey string, rare bool) []byte {
	if rare {
		return append(dst, rareKey...)
	}
	dst = append(dst, was...)
	switch variant >> 16 % 8 {
	case 0:
		return append(dst, "-prod"...)
	case 1:
		return append(dst, "-stage"...)
	}
	return dst
}
