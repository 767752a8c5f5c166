package rows

// Encoder and decoder go through a text line by line, and come to the same state behind each. All of it begins anew with each text.

const (
	recentPIDs   = 32      // processes that are told by their place among the last ones
	recentValues = 16      // of a key
	refRows      = 2048    // places for rows by template and process
	maxMasks     = 250     // of a template
	maxRows      = 1 << 18 // values of rows; a frame of a group has a quarter of that
)

// state is what is known of the lines before.
type state struct {
	t     *Table
	gen   uint32 // of the text: what has another one is of an earlier text
	prev  int32  // template of the line before
	ms    uint64 // of the last stamp, with stamp its text; serial likewise
	ser   uint64
	stamp span
	known bool // there was one; of a Decoder, it is numbers

	pid    uint64 // of the last line that has one
	pids   [recentPIDs]uint64
	numPID int
	newPID uint64 // the last that was not among pids

	perTemplate []templateState
	perKey      []keyState
	refs        [refRows]ref
	rows        []span         // of the lines that refs and templates have
	none        [maxSlots]span // a row that is not kept
	over        bool           // there were too many: rows of one process may have another one's
}

// templateState is what is known of a template.
type templateState struct {
	gen   uint32
	next  int32 // the template that followed it last; -1: none
	last  int32 // where its last row is in rows; -1: none
	masks []uint64
}

// keyState has the last values of a key: a ring, in which the latest is at head and those before behind it.
type keyState struct {
	gen    uint32
	head   uint32
	n      int
	recent [recentValues]span
}

// ref is the last row of a template and a process.
type ref struct {
	gen      uint32
	template int32
	row      int32
	pid      uint64
}

// begin begins a text.
func (s *state) begin(t *Table) {
	s.t = t
	if s.gen++; s.gen == 0 {
		*s = state{t: t, gen: 1}
	}
	s.prev, s.ms, s.ser, s.known, s.stamp = 0, 0, 0, false, span{}
	s.pid, s.numPID, s.newPID = 0, 0, 0
	s.rows, s.over = s.rows[:0], false
}

// of returns what is known of a template.
func (s *state) of(id int32) *templateState {
	for int(id) >= len(s.perTemplate) {
		s.perTemplate = append(s.perTemplate, templateState{})
	}
	x := &s.perTemplate[id]
	if x.gen != s.gen {
		x.gen, x.next, x.last, x.masks = s.gen, -1, -1, x.masks[:0]
	}
	return x
}

// key returns the last values of a key.
func (s *state) key(k uint32) *keyState {
	for int(k) >= len(s.perKey) {
		s.perKey = append(s.perKey, keyState{})
	}
	x := &s.perKey[k]
	if x.gen != s.gen {
		x.gen, x.n = s.gen, 0
	}
	return x
}

// last returns the value at place i, which is less than n; the latest is at 0.
func (k *keyState) last(i int) span { return k.recent[(k.head+uint32(i))%recentValues] }

// use makes the value at place i the latest, and v its span.
func (k *keyState) use(i int, v span) {
	at := (k.head + uint32(i)) % recentValues
	for ; i > 0; i-- {
		before := (at - 1) % recentValues
		k.recent[at] = k.recent[before]
		at = before
	}
	k.recent[at] = v
}

// add makes a new value the latest. Where the ring is full, the one that was used least lately goes.
func (k *keyState) add(v span) {
	k.head = (k.head - 1) % recentValues
	k.recent[k.head] = v
	k.n = min(k.n+1, recentValues)
}

// usePID makes a process the latest; i is its place among the last ones, numPID for another one.
func (s *state) usePID(i int, pid uint64) {
	if i == s.numPID {
		s.newPID = pid
		if s.numPID < recentPIDs {
			s.numPID++
		} else {
			i--
		}
	}
	copy(s.pids[1:i+1], s.pids[:i])
	s.pids[0], s.pid = pid, pid
}

// rowPair is the row that a line is compared with, and the one of the line itself, which may be the same.
type rowPair struct {
	at, was     int32 // of now and before in state.rows; -1: it is not kept, or is the table's
	before, now []span
	found       bool // the row before is of the present process, and now is it
	first       bool // the row before is the table's
}

// row finds the row that a line of a template is compared with, which the present process has, or else the last one, or else
// the table; and a row for the line itself.
func (s *state) row(p *rowPair, id int32, x *templateState) {
	t := &s.t.temps[id]
	n := len(t.first)
	r := &s.refs[(uint32(id)*2654435761^uint32(s.pid)*40503)%refRows]
	if r.gen == s.gen && r.template == id && r.pid == s.pid {
		x.last = r.row
		now := s.rows[r.row : int(r.row)+n]
		*p = rowPair{at: r.row, was: r.row, before: now, now: now, found: true}
		return
	}
	if len(s.rows)+n > maxRows { // whatever a text is, no more is kept
		s.over = true
		if x.last < 0 {
			*p = rowPair{at: -1, was: -1, before: t.first, now: s.none[:n], first: true}
			return
		}
		now := s.rows[x.last : int(x.last)+n]
		*p = rowPair{at: x.last, was: x.last, before: now, now: now}
		return
	}
	at := len(s.rows)
	if at+n <= cap(s.rows) {
		s.rows = s.rows[:at+n]
	} else {
		s.rows = append(s.rows, make([]span, n)...)
	}
	*p = rowPair{at: int32(at), was: x.last, now: s.rows[at : at+n]}
	if p.first = x.last < 0; p.first {
		p.before = t.first
	} else {
		p.before = s.rows[x.last : int(x.last)+n]
	}
	*r = ref{s.gen, id, int32(at), s.pid}
	x.last = int32(at)
}

// The greatest numbers that number and hexNumber know.
const (
	mostDecimal = 1e18 - 1
	mostHex     = 1<<60 - 1
)

// number is a value as a decimal number without leading zeros, of 18 digits at most.
func number(v []byte) (n uint64, ok bool) {
	if len(v) == 0 || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, true
}

// hexNumber is a value as a number in lower-case hex without leading zeros, of 15 digits at most.
func hexNumber(v []byte) (n uint64, ok bool) {
	if len(v) == 0 || len(v) > 15 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// stampOf parses a record's stamp, SECONDS.MILLISECONDS:SERIAL, which is written in only one way.
func stampOf(v []byte) (ms, serial uint64, ok bool) {
	dot := -1
	for i, c := range v {
		if c == '.' {
			dot = i
			break
		}
	}
	if dot < 1 || dot > 12 || len(v) < dot+6 || v[dot+4] != ':' {
		return 0, 0, false
	}
	sec, ok := number(v[:dot])
	if !ok {
		return 0, 0, false
	}
	for _, c := range v[dot+1 : dot+4] {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		ms = 10*ms + uint64(c-'0')
	}
	serial, ok = number(v[dot+5:])
	return 1000*sec + ms, serial, ok
}
