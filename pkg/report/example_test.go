package report_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
)

func ExampleRunFiles() {
	o, err := report.ParseArgs([]string{"-if", "../search/testdata/kernel-raw.log", "--key", "--summary"}, search.Env{Locale: "C"})
	if err != nil {
		fmt.Println(err)
		return
	}
	report.RunFiles(context.Background(), o, time.UTC, "", search.Stdio{Out: os.Stdout, Err: os.Stderr})
	// Output:
	// Key Summary Report
	// ===========================
	// total  key
	// ===========================
	// 42  names
	// 42  second key
	// 39  opens
	// 34  ipc and net
	// 19  perm_mod
	// 7  maps
	// 6  exec-by-workload
}
