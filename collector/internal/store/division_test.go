package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// A batch is divided as a Classifier says of each of its events, whatever its hosts and keys, and is the same when it is read again.
func TestDivide(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(seed, storetest.Templates(t), 6, storetest.Start), 300)
		for i, key := range []string{`"noise"`, "6E6F697365", `"a-noise"`, "(null)", `"noise\001other"`} {
			for _, host := range []string{"", "web1", "db1"} {
				tab.Add(host, storetest.Parse(host, fmt.Sprintf("node=db%d type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=59 key=%s", i, storetest.Start.Unix(), i, key)))
			}
		}
		for _, classes := range []store.Classes{{{Hosts: "nobody"}}, {{Hosts: "*"}}, {{Key: "noise"}}, {{Hosts: "web*"}, {Key: "*noise"}, {Hosts: "db*"}}, {{Key: "a*"}, {Key: "*"}, {Hosts: "h?"}}} {
			d := tab.Divide(classes)
			cl, next := store.NewClassifier(classes), d.Places()
			var ev event.Event
			seen, events := map[uint64]bool{}, uint64(0)
			for _, h := range tab.Hosts() {
				for _, i := range h.Order() {
					e := &h.Events[i]
					store.ParseInto(&ev, e.Text, e.Counted, []byte(h.Name), e.Origin)
					class, place := next()
					c := d.Classes[class]
					if want := classes.Name(cl.Of(h.Name, &ev)); c.Name != want || place < c.First || place >= c.First+c.Events || seen[place] {
						t.Fatalf("seed %d, %v: event %d of %q is of %q at %d, want %q", seed, classes, i, h.Name, c.Name, place, want)
					}
					seen[place] = true
					events++
				}
			}
			for i := range d.Classes {
				d.Classes[i].Proof = [][32]byte{{byte(i), 1}, {2}}[:i%3]
			}
			b := d.Encode()
			again, err := store.DecodeDivision(b, events)
			if err != nil || !slices.Equal(again.Encode(), b) || !cmp.Equal(d.Classes, again.Classes, cmpopts.EquateEmpty()) {
				t.Fatalf("seed %d, %v: read again: %v", seed, classes, err)
			}
			for range 50 {
				bad := slices.Clone(b)
				bad[int(events+uint64(len(seen)))%len(bad)] ^= 1 << (seed % 8)
				if _, err := store.DecodeDivision(bad[:len(bad)-int(seed%2)], events+1); !errors.Is(err, store.ErrDamaged) {
					t.Fatalf("a damaged one: %v", err)
				}
			}
			said := store.ParseWords(d.Words(), events)
			if !cmp.Equal(d.Classes, said, cmpopts.IgnoreFields(store.Divided{}, "Proof")) {
				t.Errorf("in words: %q is %v", d.Words(), said)
			}
		}
	}
}

// Long names are said by what stands for them, and words that are none are of a batch that is of one class, or of any.
func TestDivisionWords(t *testing.T) {
	t.Parallel()
	d := &store.Division{}
	for i := range uint64(65) {
		d.Classes = append(d.Classes, store.Divided{Name: fmt.Sprintf("%s%d", strings.Repeat("x", 250), i), First: i, Events: 1})
	}
	list := store.ParseWords(d.Words(), 65)
	if len(list) != 65 || len(d.Words()) > 4096 || !store.IsClass(list[7].Name, d.Classes[7].Name) || store.IsClass(list[7].Name, d.Classes[8].Name) || store.ClassKey(list[7].Name) != store.ClassKey(d.Classes[7].Name) {
		t.Errorf("%d classes in %d bytes: %+v", len(list), len(d.Words()), list)
	}
	for words, want := range map[string][]store.Divided{
		"": nil, "another reason": nil, `classes: "a" 2, "b" 3`: {{Name: "a", Events: 2}, {Name: "b", First: 2, Events: 3}},
		`classes: "a" 2`: {{Name: store.Undivided, Events: 5}}, `classes: "a" 9`: {{Name: store.Undivided, Events: 5}}, `classes: a`: {{Name: store.Undivided, Events: 5}}, "classes: ": {{Name: store.Undivided, Events: 5}},
		`classes: "a, \" 2" 5`: {{Name: `a, " 2`, Events: 5}},
	} {
		if got := store.ParseWords(words, 5); !cmp.Equal(got, want) {
			t.Errorf("%q: %+v, want %+v", words, got, want)
		}
	}
}
