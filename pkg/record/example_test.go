package record_test

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/record"
)

func ExampleRecord_Parse() {
	var r record.Record
	if err := r.Parse([]byte(`node=web1 type=PATH msg=audit(1700000000.123:45): item=0 name=2F746D702F6120622E747874 nametype=CREATE`)); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s %d %d\n", r.Node, r.TypeName, r.Ms(), r.Serial)
	if name, ok := r.Get("name"); ok { // with a blank in it, so the kernel wrote hex
		fmt.Printf("%s\n", name.AppendDecoded(nil))
	}
	// Output:
	// web1 PATH 1700000000123 45
	// /tmp/a b.txt
}

func ExampleRecord_MsgFields() {
	var r record.Record
	_ = r.Parse([]byte(`type=USER_LOGIN msg=audit(1700000000.123:46): pid=7 uid=0 msg='op=login acct="alice" res=failed'`))
	for _, fields := range []record.Fields{r.Fields(), r.MsgFields()} {
		for f, ok := fields.Next(); ok; f, ok = fields.Next() {
			fmt.Printf("%s=%s\n", f.Name, f.Value)
		}
	}
	// Output:
	// pid=7
	// uid=0
	// msg=op=login acct="alice" res=failed
	// op=login
	// acct=alice
	// res=failed
}
