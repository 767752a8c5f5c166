package interpret_test

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func ExampleInterpreter_AppendValue() {
	var r record.Record
	_ = r.Parse([]byte(`type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e syscall=257 success=no exit=-13 a1=7ffe`))
	in := interpret.New(interpret.Config{})
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		fmt.Printf("%s=%s is %s\n", f.Name, f.Value, in.AppendValue(nil, &r, f))
	}
	// Output:
	// arch=c000003e is x86_64
	// syscall=257 is openat
	// success=no is no
	// exit=-13 is EACCES(Permission denied)
	// a1=7ffe is 0x7ffe
}
