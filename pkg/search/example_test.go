package search_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/search"
)

func ExampleRunFiles() {
	o, err := search.ParseArgs([]string{"-if", "testdata/types.log", "-m", "USER_LOGIN", "--count"}, search.Env{Locale: "C"})
	if err != nil {
		fmt.Println(err)
		return
	}
	code := search.RunFiles(context.Background(), o, time.UTC, "", search.Stdio{Out: os.Stdout, Err: os.Stderr})
	fmt.Println("exit", code)
	// Output:
	// 3
	// exit 0
}
