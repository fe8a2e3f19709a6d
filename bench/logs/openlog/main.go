// Openlog opens Tributary's log in a directory, appends to it, and prints how
// much memory it takes: a process that is nothing but a log. It prints two
// numbers, bytes that are resident: with the log open and one record appended,
// and after 100 goroutines appended 1000 records each.
//
//	openlog DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/store"

	"github.com/tributary-edge/tributary/bench/logs/ours"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "openlog:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: openlog DIR")
	}
	fs, err := disk.Dir(args[0])
	if err != nil {
		return err
	}
	l, err := ours.Start(ctx, fs, store.Options{Compress: true, MaxBytes: 2 << 30}, true, tell)
	if err != nil {
		return err
	}
	var sizes [2]int64
	for i, shape := range [][2]int{{1, 1}, {100, 1000}} {
		if err := press(l, shape[0], shape[1]); err != nil {
			return err
		}
		if sizes[i], err = resident(); err != nil {
			return err
		}
	}
	fmt.Println(sizes[0], sizes[1])
	return l.Close()
}

func tell(tickets []tributary.Ticket, err error) {
	for _, t := range tickets {
		t.Owner.(chan error) <- err
	}
}

// press has so many goroutines append that many records each, and wait for each
// of them.
func press(l *ours.Log, appenders, each int) error {
	var all sync.WaitGroup
	errs := make([]error, appenders)
	for g := range appenders {
		all.Go(func() {
			value, done := make([]byte, ours.Bytes), make(chan error, 1)
			for i := 0; i < each && errs[g] == nil; i++ {
				if errs[g] = l.Put(value, tributary.Ticket{Owner: done}); errs[g] == nil {
					errs[g] = <-done
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// resident asks the kernel how many bytes of memory this process has.
func resident() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, errors.New("the kernel does not say what is resident")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}
