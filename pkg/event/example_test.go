package event_test

import (
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func Example() {
	asm := event.NewAssembler(event.Config{}, func(ev *event.Event) {
		fmt.Printf("event %d of %d records\n", ev.Serial, len(ev.Records))
	})
	for _, line := range []string{
		`type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e syscall=257`,
		`type=SYSCALL msg=audit(1700000000.123:46): arch=c000003e syscall=59`,
		`type=PROCTITLE msg=audit(1700000000.123:46): proctitle="ls"`,
		`type=PATH msg=audit(1700000000.123:45): item=0 name="/etc/passwd"`,
		`type=PROCTITLE msg=audit(1700000000.123:45): proctitle="cat"`,
	} {
		var r record.Record
		if err := r.Parse([]byte(line)); err != nil {
			fmt.Println(err)
			return
		}
		asm.Add(&r, 0, time.Now())
	}
	// Output:
	// event 46 of 2 records
	// event 45 of 3 records
}
