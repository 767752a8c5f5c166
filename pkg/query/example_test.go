package query_test

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const log = `type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e syscall=257 success=no exit=-13 pid=901 auid=1000 comm="cat" exe="/usr/bin/cat" key="secrets"
type=PATH msg=audit(1700000000.123:45): item=0 name="/etc/shadow" nametype=NORMAL
type=SYSCALL msg=audit(1700000007.000:46): arch=c000003e syscall=257 success=yes exit=3 pid=902 auid=1000 comm="ls" exe="/usr/bin/ls" key="secrets"
`

func ExampleMatcher() {
	q := &query.Query{Terms: []query.Term{
		{Fields: []query.Field{query.FieldKey}, Text: "secrets"},
		{Fields: []query.Field{query.FieldFile}, Op: query.OpContains, Text: "shadow"},
	}}
	m := query.NewMatcher(q)
	for _, ev := range eventtest.Parse([]byte(log)) {
		fmt.Println(ev.Serial, m.Match(ev))
	}
	// Output:
	// 45 true
	// 46 false
}

func ExampleExtractor_Extract() {
	var x query.Extractor
	x.Extract(eventtest.Parse([]byte(log))[0], func(f query.Field, value []byte) {
		fmt.Printf("%s %s\n", f, value)
	})
	// Output:
	// type 1300
	// type 1302
	// key secrets
	// pid 901
	// auid 1000
	// syscall 257
	// arch x86_64
	// success no
	// exit -13
	// comm cat
	// exe /usr/bin/cat
	// file /etc/shadow
}
