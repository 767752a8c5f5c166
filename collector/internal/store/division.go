package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// An engine elsewhere keeps the classes of retention apart from the beginning: nothing is written again there. So the events of a batch are divided when it is sealed,
// and what was decided then is sealed with it: it is handed over the same, however often and whatever the rules are by then.

// Dividing is a place that divides the batches to come by classes.
type Dividing interface {
	// Divide sets by which; none: they are not divided.
	Divide(c Classes)
}

// Division says of which class each event of a batch is. It never changes. A place numbers the events of a batch class by class, in each class in the order of Sealed.Each.
type Division struct {
	Classes []Divided // those that have events, in their order
	runs    []run     // in the order of Sealed.Each
}

// Divided is what a batch has of one class.
type Divided struct {
	Name          string
	First, Events uint64 // the place of the first one, and how many there are
	// Proof has the hashes that complete the root of the tree over the batch's events around these (collector/internal/eventtree); none where no root was made.
	Proof [][32]byte
}

// run is events of one class that follow one another.
type run struct{ class, n uint64 }

const (
	mostDivided = 1 << 12
	mostProof   = 64
	mostClass   = 1 << 10 // bytes of a name
	mostPlaces  = 1 << 31
	hashSize    = sha256.Size
	// WordsBegin begins what Division.Words says.
	WordsBegin   = "classes: "
	mostWords    = 3 << 10
	hashedPrefix = "#"
)

// Divide divides a table's events.
func (t *Table) Divide(c Classes) *Division {
	cl := NewClassifier(c)
	// A value of a key that no class means says that its event has no class by that key. The others' are looked at once more.
	meant := map[uint32]bool{}
	for id, v := range t.Values() {
		if v.Field != query.FieldKey {
			continue
		}
		for _, class := range c {
			if class.Key != "" && query.NodeIs(class.Key, v.Text) {
				meant[uint32(id)] = true
			}
		}
	}
	counts := make([]uint64, len(c)+1)
	d := &Division{}
	var ev event.Event
	hosts := t.Hosts()
	for i := range hosts {
		h := &hosts[i]
		for _, at := range h.Order() {
			e := &h.Events[at]
			var n int
			if e.mayBe(h.ValuesOf(int(at)), meant) {
				ParseInto(&ev, e.Text, e.Counted, []byte(h.Name), e.Origin)
				if h.Name == "" {
					ev.Node = []byte(e.Node)
				}
				n = cl.Of(h.Name, &ev)
			} else if h.Name != "" {
				n = cl.ofHost(h.Name)
			} else {
				n = cl.ofHost(e.Node)
			}
			counts[n]++
			d.add(uint64(n), 1)
		}
	}
	// Classes without events are left out.
	at, first := make([]uint64, len(counts)), uint64(0)
	for n, events := range counts {
		if at[n] = uint64(len(d.Classes)); events > 0 {
			d.Classes = append(d.Classes, Divided{Name: c.Name(n), First: first, Events: events})
			first += events
		}
	}
	for i := range d.runs {
		d.runs[i].class = at[d.runs[i].class]
	}
	return d
}

// mayBe reports whether an event has a value that some class means.
func (e *TableEvent) mayBe(ids []uint32, meant map[uint32]bool) bool {
	if len(meant) == 0 {
		return false
	}
	for _, id := range ids {
		if meant[id] {
			return true
		}
	}
	return false
}

func (d *Division) add(class, n uint64) {
	if last := len(d.runs) - 1; last >= 0 && d.runs[last].class == class {
		d.runs[last].n += n
		return
	}
	d.runs = append(d.runs, run{class, n})
}

// Places returns what gives the class and the place of each event, in the order of Sealed.Each; behind the last one it is the last class, and no place.
func (d *Division) Places() func() (class int, place uint64) {
	next := make([]uint64, len(d.Classes))
	for i := range d.Classes {
		next[i] = d.Classes[i].First
	}
	i, used := 0, uint64(0)
	return func() (int, uint64) {
		for i < len(d.runs) && used == d.runs[i].n {
			i, used = i+1, 0
		}
		if i == len(d.runs) {
			return len(d.Classes) - 1, mostPlaces
		}
		used++
		class := d.runs[i].class
		next[class]++
		return int(class), next[class] - 1
	}
}

// Encode returns the division's bytes (group/FORMAT.md).
func (d *Division) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(d.Classes)))
	for i := range d.Classes {
		c := &d.Classes[i]
		b = append(binary.AppendUvarint(b, uint64(len(c.Name))), c.Name...)
		b = binary.AppendUvarint(binary.AppendUvarint(b, c.Events), uint64(len(c.Proof)))
		for _, h := range c.Proof {
			b = append(b, h[:]...)
		}
	}
	for _, r := range d.runs {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.class), r.n)
	}
	return b
}

// DecodeDivision is the reverse, of a batch of so many events. Error: ErrDamaged.
func DecodeDivision(b []byte, events uint64) (*Division, error) {
	bad := func(what string) (*Division, error) {
		return nil, fmt.Errorf("%w: %s of the classes of a batch of %d events", ErrDamaged, what, events)
	}
	r := varint.NewReader(b)
	d, left := &Division{}, events
	n := r.Uvarint()
	if n == 0 || n > mostDivided || events > mostPlaces {
		return bad("the number")
	}
	for range n {
		size := r.Uvarint()
		if size == 0 || size > mostClass {
			return bad("a name")
		}
		c := Divided{Name: string(r.Bytes(size)), First: events - left}
		c.Events = r.Uvarint()
		hashes := r.Uvarint()
		if r.Bad() || c.Events == 0 || c.Events > left || hashes > mostProof {
			return bad("a name")
		}
		left -= c.Events
		for range hashes {
			var h [hashSize]byte
			copy(h[:], r.Bytes(hashSize))
			c.Proof = append(c.Proof, h)
		}
		d.Classes = append(d.Classes, c)
	}
	counts := make([]uint64, n)
	for r.Len() > 0 && !r.Bad() {
		x := run{r.Uvarint(), r.Uvarint()}
		if x.class >= n || x.n == 0 || x.n > d.Classes[x.class].Events-counts[x.class] {
			return bad("the order")
		}
		counts[x.class] += x.n
		d.runs = append(d.runs, x)
	}
	for i := range counts {
		if counts[i] != d.Classes[i].Events {
			return bad("the order")
		}
	}
	if r.Bad() || left != 0 || !bytes.Equal(d.Encode(), b) {
		return bad("the sum")
	}
	return d, nil
}

// Words says the division in words, for the log of what was stored: which classes there are, and how many events of each. Where their names are long, they are said by
// the beginnings of their hashes.
func (d *Division) Words() string {
	words := func(name func(string) string) string {
		list := make([]string, len(d.Classes))
		for i := range d.Classes {
			list[i] = strconv.Quote(name(d.Classes[i].Name)) + " " + strconv.FormatUint(d.Classes[i].Events, 10)
		}
		return WordsBegin + strings.Join(list, ", ")
	}
	if s := words(func(name string) string { return name }); len(s) <= mostWords {
		return s
	}
	return words(hashedName)
}

// hashedName stands for a name that is too long.
func hashedName(name string) string {
	h := sha256.Sum256([]byte(name))
	return hashedPrefix + hex.EncodeToString(h[:8])
}

// IsClass reports whether what Words says of a class means the one of that name.
func IsClass(said, name string) bool { return said == name || said == hashedName(name) }

// ClassKey is one text for a class, whether Words says its name or what stands for it; "" for none.
func ClassKey(said string) string {
	if said == "" || strings.HasPrefix(said, hashedPrefix) {
		return said
	}
	return hashedName(said)
}

// ParseWords is the reverse of Division.Words, without the order and the hashes; nil for other words, of a batch that is not divided. Where the classes do not make up
// so many events, all of these are of the class Undivided.
func ParseWords(words string, events uint64) (list []Divided) {
	rest, ok := strings.CutPrefix(words, WordsBegin)
	if !ok {
		return nil
	}
	whole := []Divided{{Name: Undivided, Events: events}}
	for at := uint64(0); rest != ""; rest = strings.TrimPrefix(rest, ", ") {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return whole
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(rest[len(quoted):], " "), ",")
		name, err := strconv.Unquote(quoted)
		n, nerr := strconv.ParseUint(number, 10, 31)
		if err != nil || nerr != nil || n > events-at {
			return whole
		}
		list = append(list, Divided{Name: name, First: at, Events: n})
		at, rest = at+n, rest[len(quoted)+1+len(number):]
	}
	if n := len(list); n == 0 || list[n-1].First+list[n-1].Events != events {
		return whole
	}
	return list
}
