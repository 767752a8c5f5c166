package clickhouse

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// dayNumber and dayOf are how the tables have a day: 20261122.
func dayNumber(d store.Day) int32 {
	y, m, day := d.Time().Date()
	return int32(y*10000 + int(m)*100 + day)
}

func dayOf(n int32) store.Day {
	return store.DayOf(time.Date(int(n/10000), time.Month(n/100%100), int(n%100), 0, 0, 0, 0, time.UTC))
}

// partition is a part's name in ClickHouse.
func partition(p store.Part) string { return fmt.Sprintf("(%d,%d)", dayNumber(p.Day), p.N) }

// A part has events of one class. Which numbers the parts of a class have follows from its name, so that collectors that begin one at the same time take the same, and never
// one of another class but by a rare chance: then what is in it is kept as what is of no class that is known.
const (
	// ofClass is how many parts of a day a class may have before another number is taken, and the first numbers are those of batches that are not divided.
	ofClass = 1000
	// classNumbers is how many numbers there are.
	classNumbers = 2_000_000
	// mostParts is how many parts a day may have. What is of further classes, whose names come and go, goes to one of all of these.
	mostParts = 200
)

// classNumber is the first number that a class's parts may have, divided by ofClass.
func classNumber(class string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(class)) // never fails
	return ofClass + int(h.Sum32()%(classNumbers-ofClass))
}

// partFor returns the part for what is received on a day and is of a class, and of which class that part is.
func (a *account) partFor(day store.Day, class string) (store.Part, string) {
	if class == "" {
		return a.next(day, 1, ofClass*ofClass), ""
	}
	of := a.lastOf(day)
	if _, is := of[class]; !is && class != store.Undivided && len(of) >= mostParts {
		class = store.Undivided
	}
	for k := classNumber(class); ; k++ {
		if k == classNumbers {
			k = ofClass
		}
		if part := a.next(day, k*ofClass, (k+1)*ofClass); part.N < (k+1)*ofClass && (a.parts[part] == nil || a.parts[part].Class == class) {
			return part, class
		}
	}
}

// next returns the last part of a day with a number from one to before another, or the one behind it where that is dropped.
func (a *account) next(day store.Day, from, to int) store.Part {
	part := store.Part{Day: day, N: from}
	for p := range a.parts {
		if p.Day == day && p.N >= from && p.N < to {
			part.N = max(part.N, p.N)
		}
	}
	for p := range a.dropped {
		if p.Day == day && p.N >= part.N && p.N < to {
			part.N = p.N + 1
		}
	}
	return part
}

// lastOf returns the number of the last part of each class of a day.
func (a *account) lastOf(day store.Day) map[string]int {
	of := map[string]int{}
	for part, p := range a.parts {
		if part.Day == day {
			of[p.Class] = max(of[p.Class], part.N)
		}
	}
	return of
}
