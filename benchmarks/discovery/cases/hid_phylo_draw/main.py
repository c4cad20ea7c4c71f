import io

from Bio import Phylo

tree = Phylo.read(io.StringIO("(a:1,b:2);"), "newick")
Phylo.draw(tree, do_show=False)
print(tree.count_terminals())
