package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// trackerVersion is of what Encode writes. Trackers of version 1 are JSON, and begin with {; those of
// version 2 lack what version 3 has more, and those of version 3 the row.
const trackerVersion = 4

// Flags of a tracker.
const (
	flagRun = 1 << iota
	flagKernel
	flagMulticast
	flagRegistered
	flagEnabled
	flagEnded
	flagVital
	flagRow
)

// Encode returns the tracker's bytes (FORMAT.md), for Restore after the next start: with the row that TakeOver has
// left. Rows that were not taken are not in there.
func (h *Host) Encode() []byte {
	r, row := &h.run, h.kept()
	flags := uint64(0)
	if r.Run != "" || r.Since > 0 {
		for i, yes := range []bool{true, r.Kernel, r.Multicast, r.Registered, r.Enabled, r.Ended} {
			if yes {
				flags |= 1 << i
			}
		}
	}
	if !h.vital.zero() {
		flags |= flagVital
	}
	size := 160
	if row != nil {
		flags |= flagRow
		size += row.room()
	}
	dst := append(make([]byte, 0, size), trackerVersion)
	dst = binary.AppendUvarint(dst, flags)
	for _, ms := range []int64{h.last, h.off, h.up, h.down} {
		dst = binary.AppendVarint(dst, ms)
	}
	dst = binary.AppendVarint(binary.AppendUvarint(dst, uint64(h.daemon)), h.parted)
	if flags&flagRun != 0 {
		dst = r.append(dst)
	}
	if flags&flagVital != 0 {
		dst = h.vital.append(dst)
	}
	if row != nil {
		dst = row.appendKept(dst)
	}
	for i := range h.chains {
		if h.begun[i] {
			dst = h.chains[i].append(dst, h.since[i])
		}
	}
	return dst
}

// kept is the row that TakeOver has left; nil: none, or there is more.
func (h *Host) kept() *Row {
	if len(h.rows) == 1 && h.at != nil && h.at.Length == Hour {
		return h.at
	}
	return nil
}

// room is about how long a row's bytes are.
func (r *Row) room() int {
	return 48 + 8*len(r.Counts) + 16*(len(r.Stated)+len(r.Chained)+len(r.Entries))
}

// appendKept appends a row of an hour, behind the number of that hour and its own length.
func (r *Row) appendKept(dst []byte) []byte {
	dst = binary.AppendVarint(dst, r.Start/Hour)
	at := len(dst)
	dst = r.Append(append(dst, 0, 0)) // a row that is kept has less than 64 KiB
	binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return dst
}

// parseKept is the reverse of appendKept.
func (h *Host) parseKept(in *reader) bool {
	hour, head := in.varint(), in.Bytes(2)
	if len(head) < 2 || hour > farthest || hour < -farthest {
		return false
	}
	row, err := ParseRow(in.Bytes(uint64(binary.BigEndian.Uint16(head))), hour*Hour, Hour)
	if err != nil {
		return false
	}
	h.at, h.rows = row, map[rowKey]*Row{{row.Start, Hour}: row}
	return true
}

// append appends a run.
func (r *run) append(dst []byte) []byte {
	for _, w := range []string{r.Run, r.Boot, r.Rules} {
		dst = appendWord(dst, w)
	}
	dst = binary.BigEndian.AppendUint64(dst, r.Sender)
	for _, n := range []int64{r.Last, r.Oldest, r.Owed, r.Told, r.Else} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, n := range []uint64{r.N, r.Records, r.Dropped, r.Lost, r.Unsent, r.Invisible, r.Received, r.Said, r.Since, r.Unsaid, uint64(len(r.Acked))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, n := range r.Acked {
		dst = binary.AppendUvarint(dst, n)
	}
	return binary.AppendVarint(dst, r.Last-r.Upto)
}

// append appends a chain, which is in rows up to a time.
func (c *chain) append(dst []byte, since int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.last))
	dst = binary.AppendVarint(dst, c.lastMs)
	dst = binary.AppendVarint(dst, c.lastMs-since)
	retired := uint64(0)
	if c.retired {
		retired = 1
	}
	dst = binary.AppendUvarint(binary.AppendVarint(dst, c.lastMs-c.begin), retired)
	dst = binary.AppendUvarint(dst, uint64(len(c.gaps)))
	for _, g := range c.gaps {
		dst = binary.AppendUvarint(dst, uint64(g.first))
		dst = binary.AppendUvarint(dst, uint64(g.last-g.first))
		for _, ms := range []int64{g.from, g.to, g.found} {
			dst = binary.AppendVarint(dst, ms)
		}
	}
	return dst
}

// Restore is the reverse of Encode. Errors: ErrFormat.
func Restore(b []byte) (*Host, error) {
	switch {
	case len(b) > 0 && b[0] == '{':
		return restore1(b)
	case len(b) == 0 || b[0] < 2 || b[0] > trackerVersion:
		return nil, ErrFormat
	}
	in := &reader{varint.NewReader(b[1:]), b[0]}
	h := NewHost()
	flags := in.Uvarint()
	for _, ms := range []*int64{&h.last, &h.off, &h.up, &h.down} {
		*ms = in.varint()
	}
	if in.version > 2 {
		h.daemon, h.parted = uint8(in.Uvarint()), in.varint()
	}
	if r := &h.run; flags&flagRun != 0 {
		if !r.parse(in) {
			return nil, ErrFormat
		}
		r.Kernel, r.Multicast, r.Registered = flags&flagKernel != 0, flags&flagMulticast != 0, flags&flagRegistered != 0
		r.Enabled, r.Ended = flags&flagEnabled != 0, flags&flagEnded != 0
	}
	if flags&flagVital != 0 && !h.vital.parse(in) {
		return nil, ErrFormat
	}
	if flags&flagRow != 0 && (in.version < 4 || !h.parseKept(in)) {
		return nil, ErrFormat
	}
	for i := 0; in.Len() > 0; i++ {
		if i == len(h.chains) || !h.chains[i].parse(in, &h.since[i]) {
			return nil, ErrFormat
		}
		h.begun[i] = true
	}
	if in.Bad() {
		return nil, ErrFormat
	}
	return h, nil
}

func (r *run) parse(in *reader) bool {
	for _, w := range []*string{&r.Run, &r.Boot, &r.Rules} {
		*w = in.word()
	}
	if b := in.Bytes(8); len(b) == 8 {
		r.Sender = binary.BigEndian.Uint64(b)
	}
	for _, n := range []*int64{&r.Last, &r.Oldest, &r.Owed, &r.Told, &r.Else} {
		*n = in.varint()
	}
	acked := uint64(0)
	for _, n := range []*uint64{&r.N, &r.Records, &r.Dropped, &r.Lost, &r.Unsent, &r.Invisible, &r.Received, &r.Said, &r.Since, &r.Unsaid, &acked} {
		*n = in.Uvarint()
	}
	if acked > maxServers || !r.bounded() {
		return false
	}
	for range acked {
		r.Acked = append(r.Acked, in.Uvarint())
	}
	if r.Upto = r.Last; in.version > 2 {
		r.Upto -= in.varint()
	}
	return !in.Bad()
}

// bounded reports whether a run's words are no longer than a statement's may be.
func (r *run) bounded() bool {
	return len(r.Run) <= maxWord && len(r.Boot) <= maxWord && len(r.Rules) <= maxWord
}

func (c *chain) parse(in *reader, since *int64) bool {
	c.last, c.lastMs = uint32(in.Uvarint()), in.varint()
	*since = c.lastMs - in.varint()
	if c.begin = *since; in.version > 2 {
		c.begin = c.lastMs - in.varint()
		c.retired = in.Uvarint() == 1
	}
	n := in.Uvarint()
	if in.Bad() || n > maxGaps+1 {
		return false
	}
	for range n {
		first := uint32(in.Uvarint())
		c.gaps = append(c.gaps, gap{first, first + uint32(in.Uvarint()), in.varint(), in.varint(), in.varint()})
	}
	return !in.Bad()
}

// reader reads what a tracker has beside numbers.
type reader struct {
	varint.Reader
	version byte
}

func (in *reader) varint() int64 {
	n := in.Uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

// How a word is written: most are of hexadecimal digits.
const (
	wordPlain = iota
	wordHex
	wordUUID // hexadecimal, with dashes behind 8, 4, 4 and 4 digits
)

func appendWord(dst []byte, w string) []byte {
	kind, digits := byte(wordHex), w
	if len(w) == 36 && w[8] == '-' && w[13] == '-' && w[18] == '-' && w[23] == '-' {
		kind, digits = wordUUID, w[:8]+w[9:13]+w[14:18]+w[19:23]+w[24:]
	}
	b, err := hex.DecodeString(digits)
	if err != nil || strings.ToLower(digits) != digits {
		kind, b = wordPlain, []byte(w)
	}
	return append(append(dst, kind, byte(len(b))), b...)
}

func (in *reader) word() string {
	head := in.Bytes(2)
	if len(head) < 2 {
		return ""
	}
	b := in.Bytes(uint64(head[1]))
	x := hex.EncodeToString(b)
	switch {
	case head[0] == wordPlain:
		return string(b)
	case head[0] == wordHex:
		return x
	case head[0] == wordUUID && len(x) == 32:
		return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	}
	in.Fail()
	return ""
}

// saved is a tracker of version 1.
type saved struct {
	Run    *run        `json:"run,omitempty"`
	Last   int64       `json:"last,omitempty"`
	Up     int64       `json:"up,omitempty"`
	Down   int64       `json:"down,omitempty"`
	Off    int64       `json:"off,omitempty"`
	Chains []savedLink `json:"chains,omitempty"`
}

type savedLink struct {
	Last   uint32     `json:"last"`
	LastMs int64      `json:"ms"`
	Since  int64      `json:"since"`
	Gaps   [][5]int64 `json:"gaps,omitempty"`
}

// restore1 is Restore for version 1.
func restore1(b []byte) (*Host, error) {
	var s saved
	if err := json.Unmarshal(b, &s); err != nil || len(s.Chains) > 2 || s.Run != nil && (len(s.Run.Acked) > maxServers || !s.Run.bounded()) {
		return nil, ErrFormat
	}
	h := NewHost()
	h.last, h.off, h.up, h.down = s.Last, s.Off, s.Up, s.Down
	if s.Run != nil {
		h.run = *s.Run
	}
	for i, l := range s.Chains {
		if len(l.Gaps) > maxGaps+1 {
			return nil, ErrFormat
		}
		h.begun[i], h.since[i] = true, l.Since
		h.chains[i] = chain{last: l.Last, lastMs: l.LastMs, begin: l.Since}
		for _, g := range l.Gaps {
			h.chains[i].gaps = append(h.chains[i].gaps, gap{uint32(g[0]), uint32(g[1]), g[2], g[3], g[4]})
		}
	}
	return h, nil
}
