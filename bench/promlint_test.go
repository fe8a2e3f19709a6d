package main

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/tributary-edge/tributary/edge/status"
)

// Prometheus' own linter finds nothing in /metrics of a node that has all that there
// is. It is here so that its library is not in the product's go.mod.
func TestPromlint(t *testing.T) {
	r := status.Report{Version: "1", Colour: status.Green, Gateways: &status.Gateways{}}
	r.Log.Filling, r.Flash.KernelKnown, r.Flash.EnduranceBytes, r.Flash.LifeYears, r.Flash.WindowSeconds = true, true, 1, 1, 3600
	var b strings.Builder
	if err := r.Metrics(&b); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(b.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
