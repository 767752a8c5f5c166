package logscan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

// More than fits in memory goes through a file, and comes back the same.
func TestBackwardsSpills(t *testing.T) {
	b := &backwards{}
	rng := rand.New(rand.NewPCG(1, 2))
	var want []string
	total := 0
	for i := 0; total < 3*backwardsMem; i++ {
		size := rng.IntN(100 << 10)
		if i%97 == 5 {
			size = 3 * readBack // larger than a step back
		}
		raw := fmt.Sprintf("type=USER msg=audit(1700000000.000:%d): %s", i, bytes.Repeat([]byte{byte('a' + i%26)}, size))
		ev := eventtest.Parse(fmt.Appendf(nil, "%s\ntype=USER msg=audit(1700000000.000:%d): short", raw, i))[0]
		if err := b.add(ev); err != nil {
			t.Fatal(err)
		}
		want = append(want, raw)
		total += len(raw)
	}
	if b.file == nil {
		t.Fatal("nothing went to a file")
	}
	i := len(want)
	err := b.each(func(ev *event.Event) error {
		if i--; len(ev.Records) != 2 || string(ev.Records[0].Raw) != want[i] || ev.Serial != uint64(i) {
			return fmt.Errorf("event %d came back as %d records, serial %d", i, len(ev.Records), ev.Serial)
		}
		return nil
	})
	if err != nil || i != 0 {
		t.Errorf("%v, %d events did not come back", err, i)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
}
