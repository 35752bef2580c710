package agenttest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room is one measure of a type or a file.
type room struct {
	measure, what string
	value         int
}

// measures are the sizes of a module's code, without its tests and the packages
// that help them.
type measures struct {
	rooms    []room
	types    map[string][2]int // methods and fields
	packages map[string]*measuredPackage
}

type measuredPackage struct {
	lines      int
	imports    []string // of the module
	methods    map[string]int
	structs    map[string]int // fields
	interfaces map[string]*ast.InterfaceType
}

// measure reads the sources below root, which belong to a module.
func measure(t *testing.T, root, module string) measures {
	t.Helper()
	m := measures{types: map[string][2]int{}, packages: map[string]*measuredPackage{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root {
			_, foreign := os.Stat(filepath.Join(path, "go.mod"))
			if name[0] == '.' || name == "testdata" || name == "vendor" || foreign == nil {
				return filepath.SkipDir
			}
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		in, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || strings.HasSuffix(in, "test") {
			return err
		}
		return m.readFile(path, filepath.ToSlash(in), module)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range m.packages {
		for typ := range joined(p.methods, p.structs) {
			m.types[name+"."+typ] = [2]int{p.methods[typ], p.structs[typ]}
			m.rooms = append(m.rooms, room{"methods", name + "." + typ, p.methods[typ]}, room{"fields", name + "." + typ, p.structs[typ]})
		}
		for typ, i := range p.interfaces {
			m.rooms = append(m.rooms, room{"interface methods", name + "." + typ, m.methodsOf(p, i)})
		}
	}
	slices.SortFunc(m.rooms, func(a, b room) int {
		return strings.Compare(a.measure+" "+a.what, b.measure+" "+b.what)
	})
	return m
}

func joined(a, b map[string]int) map[string]bool {
	out := map[string]bool{}
	for _, m := range []map[string]int{a, b} {
		for name := range m {
			out[name] = true
		}
	}
	return out
}

func (m *measures) readFile(path, in, module string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	tree, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p := m.packages[in]
	if p == nil {
		p = &measuredPackage{methods: map[string]int{}, structs: map[string]int{}, interfaces: map[string]*ast.InterfaceType{}}
		m.packages[in] = p
	}
	lines := bytes.Count(text, []byte("\n"))
	p.lines += lines
	m.rooms = append(m.rooms, room{"lines", in + "/" + filepath.Base(path), lines})
	for _, i := range tree.Imports {
		if imported, err := strconv.Unquote(i.Path.Value); err == nil && strings.HasPrefix(imported, module+"/") {
			p.imports = append(p.imports, strings.TrimPrefix(imported, module+"/"))
		}
	}
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil {
				p.methods[receiver(d.Recv.List[0].Type)]++
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if s, ok := s.(*ast.TypeSpec); ok {
					p.declare(s)
				}
			}
		}
	}
	return nil
}

func (p *measuredPackage) declare(s *ast.TypeSpec) {
	switch typ := s.Type.(type) {
	case *ast.StructType:
		for _, f := range typ.Fields.List {
			p.structs[s.Name.Name] += max(1, len(f.Names)) // an embedded one has no name
		}
	case *ast.InterfaceType:
		p.interfaces[s.Name.Name] = typ
	}
}

// receiver is the name of a method's type, without pointer and parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// methodsOf counts an interface's methods and those of the module's interfaces in
// it; another module's counts as one.
func (m *measures) methodsOf(p *measuredPackage, i *ast.InterfaceType) (n int) {
	for _, f := range i.Methods.List {
		switch e := f.Type.(type) {
		case *ast.FuncType:
			n += max(1, len(f.Names))
		case *ast.Ident:
			n += m.methodsIn(p, e.Name)
		case *ast.SelectorExpr:
			n += m.methodsIn(m.named(p, e), e.Sel.Name)
		}
	}
	return n
}

func (m *measures) methodsIn(p *measuredPackage, name string) int {
	if p == nil || p.interfaces[name] == nil {
		return 1
	}
	return m.methodsOf(p, p.interfaces[name])
}

// named is the package of the module that a selector names by the end of its path;
// nil: another module's.
func (m *measures) named(p *measuredPackage, e *ast.SelectorExpr) *measuredPackage {
	x, ok := e.X.(*ast.Ident)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(p.imports, func(path string) bool { return path == x.Name || strings.HasSuffix(path, "/"+x.Name) })
	if i < 0 {
		return nil
	}
	return m.packages[p.imports[i]]
}

// chain is the longest row of packages of which each imports the next.
func (m *measures) chain() (longest []string) {
	known := map[string][]string{}
	var from func(name string) []string
	from = func(name string) []string {
		if c, ok := known[name]; ok {
			return c
		}
		var below []string
		if p := m.packages[name]; p != nil {
			for _, i := range slices.Sorted(slices.Values(p.imports)) {
				if c := from(i); len(c) > len(below) {
					below = c
				}
			}
		}
		known[name] = append([]string{name}, below...)
		return known[name]
	}
	for name := range m.packages {
		if c := from(name); len(c) > len(longest) || len(c) == len(longest) && slices.Compare(c, longest) < 0 {
			longest = c
		}
	}
	return longest
}
