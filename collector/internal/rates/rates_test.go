package rates

import (
	"math"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

func TestRates(t *testing.T) {
	var r Rates
	now := time.Now()
	at := func(sec int, old, young uint64) {
		hosts := []store.Host{{Name: "old", Records: old}}
		if young > 0 {
			hosts = append(hosts, store.Host{Name: "young", Records: young})
		}
		r.count(now.Add(time.Duration(sec)*time.Second), hosts)
	}
	want := func(host string, want float64) {
		t.Helper()
		if got, known := r.Of(host); !known || math.Abs(got-want) > 0.05*want+0.001 {
			t.Errorf("%s: %v, known %v, want %v", host, got, known, want)
		}
	}
	at(0, 1_000_000, 0) // from before the start
	if _, known := r.Of("old"); known {
		t.Error("a rate is known from one count")
	}
	at(5, 1_000_500, 0)
	want("old", 100)
	at(10, 1_001_000, 50) // met since
	want("old", 100)
	want("young", 10)
	old, young := uint64(1_001_000), uint64(50)
	for sec := 15; sec <= 370; sec += 5 { // steady for six minutes
		old, young = old+1000, young+50
		at(sec, old, young)
	}
	want("old", 200)
	want("young", 10)
	at(430, old, young) // a minute of silence
	want("old", 200*math.Exp(-1))
	at(430, old+1000, young) // the clock stands still
	want("old", 200*math.Exp(-1))
	at(435, old+1000, 5) // forgotten and met again
	want("young", 1)
	if _, known := r.Of("none"); known {
		t.Error("a rate is known of a host that is not")
	}
}
