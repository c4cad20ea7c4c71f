"""A small network on the CPU, trained for some steps: forward, backward, optimiser, saved and loaded."""

import io

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.linspace(-1, 1, 64).unsqueeze(1)
wanted = inputs**2
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for _ in range(100):
    loss = nn.functional.mse_loss(model(inputs), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
file = io.BytesIO()
torch.save(model.state_dict(), file)
file.seek(0)
copy = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
copy.load_state_dict(torch.load(file))
print("loss", round(loss.item(), 4), loss.item() < 0.01)
print("same", torch.equal(model(inputs), copy(inputs)))
image = torch.arange(64.0).reshape(1, 1, 8, 8)
print("convolved", round(nn.functional.conv2d(image, torch.ones(1, 1, 3, 3)).sum().item(), 2))
