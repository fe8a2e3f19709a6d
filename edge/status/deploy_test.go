package status

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// What is in deploy for Prometheus and Grafana asks for metrics that a node has: each
// name, and each label with its value.
func TestDeployed(t *testing.T) {
	r := well()
	r.Log.Filling, r.Log.RoomDays = true, 2
	r.Gateways = &Gateways{}
	var b strings.Builder
	if err := r.Metrics(&b); err != nil {
		t.Fatal(err)
	}
	metrics := b.String()
	asked := regexp.MustCompile(`tributary_[a-z0-9_]+`)
	label := regexp.MustCompile(`(tributary_[a-z0-9_]+)\{(?:instance="[^"]*",)?((?:colour|state|reason)="[a-z]+")`)
	for _, file := range []string{"../../deploy/prometheus/alerts.yaml", "../../deploy/grafana/node.json"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(src), `\"`, `"`)
		names := asked.FindAllString(text, -1)
		if len(names) < 10 {
			t.Errorf("%s asks for %d metrics", file, len(names))
		}
		for _, name := range names {
			if !strings.Contains(metrics, "# TYPE "+name+" ") {
				t.Errorf("%s asks for %s, which no node has", file, name)
			}
		}
		for _, m := range label.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(metrics, m[1]+"{"+m[2]+"}") {
				t.Errorf("%s asks for %s{%s}, which no node has", file, m[1], m[2])
			}
		}
	}
}

// The dashboard is JSON that Grafana can take, and no panel lies on another one.
func TestDashboard(t *testing.T) {
	src, err := os.ReadFile("../../deploy/grafana/node.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(src, &d); err != nil || len(d.Panels) < 5 {
		t.Fatalf("%v, %d panels", err, len(d.Panels))
	}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		g := p.GridPos
		if g.X+g.W > 24 || len(p.Targets) == 0 || p.Title == "" {
			t.Errorf("panel %q: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if by, is := taken[[2]int{x, y}]; is {
					t.Fatalf("panel %q lies on %q", p.Title, by)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
